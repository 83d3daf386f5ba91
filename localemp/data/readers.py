"""Readers of dialogues by name; each reads named sources or one kind of file.

A new reader is one file with a subclass of `Reader`, and one call of `register_reader`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

from localemp.data.empathetic_dialogues import (
    SPLITS,
    Conversation,
    Split,
    clean_instances,
    published_instances,
    read_conversations,
    split_file,
)
from localemp.data.jsonl import read_jsonl
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home, cache_dir, resource
from localemp.utils.plugins import a_thing, check_made_from, load_plugins

Instances = Literal["clean", "published"]
INSTANCES: tuple[Instances, ...] = get_args(Instances)

_BUILDERS = {"clean": clean_instances, "published": published_instances}


class Reader(ABC):
    """Reads one source of dialogues.

    Args:
        source: The value of `--data`: one of `names`, or a path.

    Attributes:
        names: The named sources.
        endings: Endings of file names of this kind; ".gz" may follow.
    """

    names: ClassVar[tuple[str, ...]] = ()
    endings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: str) -> None:
        self.source = source

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether this reader reads a source."""
        path = at_home(source)
        of_this_kind = Path(path.name.removesuffix(".gz")).suffix in cls.endings
        return source in cls.names or (of_this_kind and is_there(path) and not is_folder(path))

    @abstractmethod
    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of a split, in order.

        Args:
            split: The split; ignored by sources without splits.
            instances: How instances are built from EmpatheticDialogues; ignored by other data.

        Raises:
            DataError: The source cannot be read, or does not have the split.
        """

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits of the source; empty for a single file."""
        return ()

    @property
    def pool(self) -> str:
        """The default source of exemplars, of which the split "train" is read."""
        return "bundled"

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the source, by split or by file.

        Args:
            splits: The splits to count; all if empty.
            instances: How instances are built from EmpatheticDialogues.
        """
        return {
            split: Stats.of_dialogues(self.read(split, instances)) for split in splits or self.splits or SPLITS[-1:]
        }


READERS: dict[str, type[Reader]] = {}


def register_reader(name: str, reader: type[Reader]) -> None:
    """Register a reader of sources for `--data` and `--pool`. It takes precedence over readers registered before.

    Args:
        name: Name for error messages.
        reader: The class.

    Raises:
        OptionError: The name is taken.
    """
    if name in READERS:
        raise OptionError(f"the reader {name!r} already exists")
    READERS[name] = reader


def readers() -> Mapping[str, type[Reader]]:
    """Return the readers by name, those of plug-ins included; later ones take precedence."""
    load_plugins("data reader", _add_plugin)
    return READERS


def _add_plugin(name: str, value: object) -> None:
    """Register a reader of a plug-in; the sources and endings of others are not its."""
    if not (isinstance(value, type) and issubclass(value, Reader)):
        raise OptionError(f"it is {a_thing(value)}; a data reader is a subclass of Reader")
    check_made_from(value, "source")
    if not all(isinstance(each, tuple) for each in (value.names, value.endings)):
        raise OptionError(f"names and endings of {value.__name__} are tuples of texts")
    for other, reader in READERS.items():
        shared = {*value.names, *value.endings} & {*reader.names, *reader.endings}
        if shared:
            raise OptionError(f"the reader {other} has {sorted(shared)[0]!r} already")
    register_reader(name, value)


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists and is accessible."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def build_instances(conversations: list[Conversation], instances: Instances) -> list[Dialogue]:
    """Return the instances of a split's conversations, "clean" or "published"."""
    return _BUILDERS[instances](conversations)


class JsonLines(Reader):
    """Reads JSON lines (see `localemp.data.jsonl`), including the dialogues that ship with localemp."""

    _SHIPPED: ClassVar = {"samples": "samples.jsonl", "bundled": "train.jsonl"}
    names = tuple(_SHIPPED)
    endings = (".jsonl", ".json")

    @property
    def path(self) -> Path:
        """The file."""
        shipped = self._SHIPPED.get(self.source)
        return at_home(self.source) if shipped is None else resource("prompts", "dialogues", shipped)

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of the file, whatever the split."""
        return read_jsonl(self.path)

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the file, under its name."""
        return {self.path.name: Stats.of_dialogues(read_jsonl(self.path))}


class EmpatheticDialogues(Reader):
    """Reads EmpatheticDialogues: fetched by `localemp data pull`, a folder with its splits, or one of its CSV files."""

    names = ("empathetic-dialogues",)
    endings = (".csv",)

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether the source is the data set's name, one of its files, or a folder."""
        return super().matches(source) or is_folder(at_home(source))

    @property
    def path(self) -> Path:
        """The folder or file."""
        if self.source not in self.names:
            return at_home(self.source)
        folder = cache_dir("data", "empathetic_dialogues")
        if not is_folder(folder):
            raise DataError(folder, "EmpatheticDialogues is not on this machine", "run `localemp data pull`")
        return folder

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits in the folder."""
        path = self.path
        return tuple(split for split in SPLITS if is_folder(path) and split_file(path, split))

    @property
    def pool(self) -> str:
        """The data set's training split; for a single file, that of its folder."""
        return self.source if is_folder(self.path) else str(self.path.parent)

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the instances of a split: one for every listener turn, or exactly those that the paper used.

        Raises:
            DataError: The folder does not have the split, the file cannot be read, or it has no dialogue.
        """
        file = self.file(split)
        dialogues = build_instances(read_conversations(file), instances)
        if not dialogues:
            dropped = " (published drops the last two conversations)" if instances == "published" else ""
            raise DataError(file, f"no conversation has a listener turn{dropped}", "give a file with listener turns")
        return dialogues

    def file(self, split: Split) -> Path:
        """Return the file of a split; a single file serves as every split.

        Raises:
            DataError: The folder does not have the split.
        """
        path = self.path
        if not is_folder(path):
            return path
        file = split_file(path, split)
        if file is None:
            splits = self.splits
            here = f"it has {', '.join(splits)}" if splits else "it has no split of EmpatheticDialogues"
            remedy = "fetch the data set with `localemp data pull`, or give a folder with train, valid and test"
            raise DataError(path, f"no {split}.csv or {split}.csv.gz; {here}", remedy)
        return file

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the splits of a folder, or of a single file under its name."""
        path = self.path
        chosen = tuple(splits) or self.splits or SPLITS
        files = {str(split): self.file(split) for split in chosen} if is_folder(path) else {path.name: path}
        counted = {}
        for name, file in files.items():
            conversations = read_conversations(file)
            counted[name] = Stats.of_conversations(conversations, build_instances(conversations, instances))
        return counted


register_reader("empathetic-dialogues", EmpatheticDialogues)
register_reader("json-lines", JsonLines)
