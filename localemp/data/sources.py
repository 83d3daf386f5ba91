"""Loads dialogues from a named source, or from the path of a data set."""

import hashlib
import json
from collections.abc import Iterable

from localemp.data.conversations import INSTANCES, Instances
from localemp.data.reader import Reader, is_there
from localemp.data.readers import readers
from localemp.data.splits import canonical_split
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError, UnknownNameError, nearest
from localemp.utils.paths import at_home
from localemp.utils.plugins import why_missing


def find_source(source: str) -> Reader:
    """Return the reader for a name ("samples", "bundled", "empathetic-dialogues") or for the path of a file or folder.

    Raises:
        DataError: The path does not exist, is a file of another kind, or cannot be read.
    """
    known = list(readers().values())[::-1]
    named = (reader for reader in known if source in reader.names)
    if (reader := next(named, None)) or (reader := next((each for each in known if each.matches(source)), None)):
        return reader(source)
    names = [name for reader in known for name in reader.names]
    endings = dict.fromkeys(ending for reader in reversed(known) for ending in reader.endings)
    hint = f"give a path or one of: {', '.join(names)}"
    if near := nearest(source, names):
        hint = f"did you mean {near!r}? {hint}"
    if not is_there(at_home(source)):
        why = why_missing("data reader", source)
        raise DataError(source, why or "no such readable file, folder or named source", hint)
    raise DataError(
        at_home(source), f"the name must end in one of {', '.join(endings)}, or in one of them and .gz", hint
    )


def load_dialogues(
    source: str, split: str = "test", instances: Instances = "clean", limit: int | None = None
) -> list[Dialogue]:
    """Return the dialogues of a source, in order.

    Args:
        source: See `find_source`.
        split: The split of a folder; ignored for a single file.
        instances: How instances are built from EmpatheticDialogues: one for every listener turn ("clean"), or exactly
            those that the paper used ("published"). Ignored for other data.
        limit: Most dialogues to return, from the start.

    Raises:
        DataError: The source does not exist, cannot be read, or has no dialogue.
        OptionError: The limit is below 1.
        UnknownNameError: The split or the kind of instances does not exist.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"the limit is {limit}", "give a limit of at least 1, or omit it for all dialogues")
    if instances not in INSTANCES:
        raise UnknownNameError("kind of instances", instances, INSTANCES)
    wanted = canonical_split(split)
    return find_source(source).read_checked(wanted, instances)[:limit]


def pool_source(source: str) -> str:
    """Return the default source of exemplars; read it with `split="train"`.

    It is the training split of a folder (for a single file of EmpatheticDialogues, that of its folder); for all other
    sources it is "bundled".

    Raises:
        DataError: The source does not exist.
    """
    return find_source(source).pool


def data_hash(dialogues: Iterable[Dialogue]) -> str:
    """Return the SHA-256 of all fields of the dialogues, in order; the same on every machine.

    Support strategies count only where there are some, so that data without them keeps its hash.
    """
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
        if dialogue.support_strategies:
            known.append(dialogue.support_strategies)
        digest.update(json.dumps(known, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()
