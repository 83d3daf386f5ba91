"""Reads files of records, or folders with such a file for every split; each form has a subclass."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from localemp.data.conversations import Instances
from localemp.data.forms import form_of
from localemp.data.reader import Reader, is_file_of
from localemp.data.records import ENDINGS
from localemp.data.splits import SPLITS, Split, split_file, split_files
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.files import is_folder
from localemp.utils.paths import at_home


class RecordReader(Reader):
    """Reads files of one form, which the keys of the first record tell.

    Attributes:
        form: The form, a key of `localemp.data.forms.FORMS`.
        more_endings: Endings of files that may be of this form but usually are something else.
    """

    endings = ENDINGS
    has_instances = False
    form: ClassVar[str]
    more_endings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether the source is a file of this form, or a folder with splits of it."""
        path = at_home(source)
        if is_folder(path):
            files = [] if _has_csv(path) else next(filter(None, (cls._files(path, split) for split in SPLITS)), [])
        else:
            files = [path] if is_file_of(path, (*cls.endings, *cls.more_endings)) else []
        return bool(files) and form_of(files[0]) == cls.form

    @staticmethod
    @abstractmethod
    def read_files(files: Sequence[Path]) -> list[Dialogue]:
        """Return the dialogues of files, which hold one data set or one split of it.

        Raises:
            DataError: A file cannot be read, or is not of this form.
        """

    @property
    def path(self) -> Path:
        """The folder or file."""
        return at_home(self.source)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits in the folder."""
        path = self.path
        return tuple(split for split in SPLITS if self._files(path, split)) if is_folder(path) else ()

    @property
    def is_whole(self) -> bool:
        """Whether it is one file."""
        return not is_folder(self.path)

    @property
    def pool(self) -> str:
        """The training split of the folder; "bundled" if there is none."""
        return self.source if "train" in self.splits else "bundled"

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of a split; a single file serves as every split.

        Raises:
            DataError: The folder does not have the split, or `read_files` fails.
        """
        path = self.path
        if not is_folder(path):
            return self.read_files([path])
        if not (files := self._files(path, split)):
            raise DataError(
                path, f"no file of the split {split}; it has {', '.join(self.splits)}", "give another --split"
            )
        return self.read_files(files)

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the splits of a folder, or of a single file under its name."""
        if not is_folder(self.path):
            return {self.path.name: Stats.of_dialogues(self.read("test", instances))}
        return {split: Stats.of_dialogues(self.read(split, instances)) for split in splits or self.splits}

    @classmethod
    def _files(cls, folder: Path, split: Split) -> list[Path]:
        return split_files(folder, split, (*cls.endings, *cls.more_endings))


def _has_csv(folder: Path) -> bool:
    return any(split_file(folder, split) for split in SPLITS)
