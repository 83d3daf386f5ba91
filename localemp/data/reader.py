"""The base class of readers of dialogues; `readers.py` has the readers by name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from localemp.data.columns import Table
from localemp.data.conversations import Instances
from localemp.data.splits import SPLITS, Split
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home
from localemp.utils.plugins import described
from localemp.utils.text import one_line

Source = str | Table
"""A source of dialogues: a name, the path of a file or folder, or a table whose columns are named."""


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists and is accessible."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def is_file_of(path: Path, endings: Sequence[str]) -> bool:
    """Return whether a path is there and its name ends in one of these, or in one of them and ".gz"."""
    return Path(path.name.removesuffix(".gz")).suffix in endings and is_there(path) and not is_folder(path)


class Reader(ABC):
    """Reads one source of dialogues.

    Args:
        source: The value of `--data`: one of `names`, or a path.

    Attributes:
        names: The named sources.
        endings: Endings of file names of this kind; ".gz" may follow.
        has_instances: Whether `instances` may change what is read.
    """

    names: ClassVar[tuple[str, ...]] = ()
    endings: ClassVar[tuple[str, ...]] = ()
    has_instances: ClassVar[bool] = True

    def __init__(self, source: str) -> None:
        self.source = source

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether this reader reads a source."""
        return source in cls.names or is_file_of(at_home(source), cls.endings)

    @abstractmethod
    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of a split, in order.

        Args:
            split: The split; ignored by sources without splits.
            instances: How instances are built from EmpatheticDialogues; ignored by other data.

        Raises:
            DataError: The source cannot be read, or does not have the split.
        """

    def read_checked(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Do as `read`, and check what a reader of others returned, since it would fail later, and elsewhere.

        Raises:
            DataError: As `read`, or it returned something else than dialogues with ids of their own.
        """
        found: object = self.read(split, instances)
        returned = f"the data reader {type(self).__module__}.{type(self).__name__} returned"
        if not isinstance(found, list):
            raise DataError(self.source, f"{returned} {described(found)}, not a list of dialogues")
        ids: set[str] = set()
        for number, each in enumerate(found, 1):
            if not isinstance(each, Dialogue):
                raise DataError(self.source, f"{returned} {described(each)} in place of dialogue {number}")
            if each.id in ids:
                raise DataError(self.source, f"{returned} two dialogues with the id {one_line(each.id, 60)!r}")
            ids.add(each.id)
        return found

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits of the source; empty for a single file."""
        return ()

    @property
    def is_whole(self) -> bool:
        """Whether it is one file without splits, which is read whole."""
        return False

    @property
    def pool(self) -> Source:
        """The default source of exemplars, of which the split "train" is read."""
        return "bundled"

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the source, by split or by file.

        Args:
            splits: The splits to count; all if empty.
            instances: How instances are built from EmpatheticDialogues.
        """
        return {
            split: Stats.of_dialogues(self.read_checked(split, instances))
            for split in splits or self.splits or SPLITS[-1:]
        }
