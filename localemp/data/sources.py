"""Finds dialogues by what a person types: a named source, or a path to EmpatheticDialogues or JSON lines."""

import hashlib
import json
from collections.abc import Iterable

from localemp.data.empathetic_dialogues import canonical_split
from localemp.data.readers import INSTANCES, READERS, Instances, Reader, is_there
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.utils.paths import at_home


def find_source(source: str) -> Reader:
    """Return the reader for a name or path: "samples", "bundled", "empathetic-dialogues", a folder, CSV or JSONL.

    Raises:
        DataError: There is nothing there, or it is a file of another kind.
    """
    readers = list(reversed(READERS.values()))
    for reader in readers:
        if reader.matches(source):
            return reader(source)
    names = [name for reader in readers for name in reader.names]
    endings = [ending for reader in reversed(readers) for ending in reader.endings]
    hint = f"give a path or one of: {', '.join(names)}"
    if not is_there(at_home(source)):
        raise DataError(source, "no such file, folder or named source that can be read", hint)
    raise DataError(at_home(source), f"its name ends in none of {', '.join(endings)} (with or without .gz)", hint)


def load_dialogues(
    source: str, split: str = "test", instances: Instances = "clean", limit: int | None = None
) -> list[Dialogue]:
    """Dialogues of a source, in its order.

    Args:
        source: See `find_source`.
        split: Which file of an EmpatheticDialogues folder; a single file is read whatever the split.
        instances: How EmpatheticDialogues becomes dialogues: one for every listener turn ("clean"), or exactly the
            rows that the paper used ("published"). JSON lines hold dialogues already.
        limit: Only so many from the start.

    Raises:
        DataError: The source cannot be found or read, or gives no dialogue.
        OptionError: The limit is below 1.
        UnknownNameError: There is no such split or kind of instances.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"the limit is {limit}", "give a limit of at least 1, or none for all dialogues")
    if instances not in INSTANCES:
        raise UnknownNameError("kind of instances", instances, INSTANCES)
    wanted = canonical_split(split)
    return find_source(source).read(wanted, instances)[:limit]


def pool_source(source: str) -> str:
    """Where exemplars come from unless a person says otherwise; read it with `split="train"`.

    EmpatheticDialogues gives its own training split (a single CSV that of the folder it lies in); for all other sources
    it is "bundled".

    Raises:
        DataError: There is no such source.
    """
    return find_source(source).pool


def data_hash(dialogues: Iterable[Dialogue]) -> str:
    """SHA-256 over all that is known of the dialogues, in their order; the same on every machine."""
    digest = hashlib.sha256()
    for dialogue in dialogues:
        known = [
            dialogue.id,
            dialogue.turns,
            dialogue.emotion,
            dialogue.situation,
            dialogue.reference,
            dialogue.conversations,
        ]
        digest.update(json.dumps(known, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()
