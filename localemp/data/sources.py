"""Finds dialogues by what a person types: a named source, or a path to EmpatheticDialogues or JSON lines."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from localemp.data.empathetic_dialogues import (
    SPLITS,
    Conversation,
    Split,
    canonical_split,
    clean_instances,
    published_instances,
    read_conversations,
    split_file,
)
from localemp.data.jsonl import read_jsonl
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home, cache_dir, resource

Instances = Literal["clean", "published"]
INSTANCES: tuple[Instances, ...] = get_args(Instances)

EMPATHETIC_DIALOGUES = "empathetic-dialogues"
NAMED_SOURCES = ("samples", "bundled", EMPATHETIC_DIALOGUES)

_BUILDERS = {"clean": clean_instances, "published": published_instances}
_NAMES = f"give a path or one of: {', '.join(NAMED_SOURCES)}"


@dataclass(frozen=True, slots=True)
class Source:
    """A source that was found.

    Attributes:
        path: A folder with EmpatheticDialogues' splits, one of its CSV files, or a JSON lines file.
        is_jsonl: Whether it is JSON lines.
    """

    path: Path
    is_jsonl: bool

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that a folder holds; none where the source is a single file."""
        return tuple(split for split in SPLITS if is_folder(self.path) and split_file(self.path, split))


def find_source(source: str) -> Source:
    """What a name or path stands for: "samples", "bundled", "empathetic-dialogues", a folder, CSV or JSONL.

    Raises:
        DataError: There is nothing there, the data set was not pulled yet, or it is a file of another kind.
    """
    if source in ("samples", "bundled"):
        return Source(resource("prompts", "dialogues", "samples.jsonl" if source == "samples" else "train.jsonl"), True)
    if source == EMPATHETIC_DIALOGUES:
        folder = cache_dir("data", "empathetic_dialogues")
        if not is_folder(folder):
            raise DataError(folder, "EmpatheticDialogues is not on this machine", "run `localemp data pull` first")
        return Source(folder, False)
    path = at_home(source)
    try:
        path.stat()
    except OSError as error:
        raise DataError(source, "no such file, folder or named source that can be read", _NAMES) from error
    if is_folder(path):
        return Source(path, False)
    match Path(path.name.removesuffix(".gz")).suffix:
        case ".csv":
            return Source(path, False)
        case ".jsonl" | ".json":
            return Source(path, True)
    raise DataError(path, "its name ends in none of .csv, .jsonl, .json (with or without .gz)", _NAMES)


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
    if instances not in _BUILDERS:
        raise UnknownNameError("kind of instances", instances, INSTANCES)
    wanted, found = canonical_split(split), find_source(source)
    if found.is_jsonl:
        return read_jsonl(found.path)[:limit]
    file = csv_file(found, wanted)
    dialogues = build_instances(read_conversations(file), instances)
    if not dialogues:
        dropped = " (published drops the last two conversations)" if instances == "published" else ""
        raise DataError(file, f"no conversation gives an instance{dropped}", "give a file with listener turns")
    return dialogues[:limit]


def build_instances(conversations: list[Conversation], instances: Instances) -> list[Dialogue]:
    """Dialogues from the conversations of a split, in one of the two ways."""
    return _BUILDERS[instances](conversations)


def csv_file(found: Source, split: Split) -> Path:
    """The file that holds a split of EmpatheticDialogues; a single file stands for every split.

    Raises:
        DataError: The folder does not hold that split.
    """
    if not is_folder(found.path):
        return found.path
    file = split_file(found.path, split)
    if file is None:
        here = f"it holds {', '.join(found.splits)}" if found.splits else "it holds no split of EmpatheticDialogues"
        remedy = "fetch the data set with `localemp data pull`, or give a folder with train, valid and test"
        raise DataError(found.path, f"no {split}.csv or {split}.csv.gz; {here}", remedy)
    return file


def pool_source(source: str) -> str:
    """Where exemplars come from unless a person says otherwise; read it with `split="train"`.

    EmpatheticDialogues gives its own training split (a single CSV that of the folder it lies in); for all other sources
    it is "bundled".

    Raises:
        DataError: There is no such source.
    """
    found = find_source(source)
    if found.is_jsonl:
        return "bundled"
    return source if is_folder(found.path) else str(found.path.parent)


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
