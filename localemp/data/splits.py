"""The splits of a data set, and their files in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from localemp.errors import UnknownNameError
from localemp.utils.files import is_file

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_STEMS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "dev", "validation"),
    "test": ("test",),
}


def canonical_split(name: str) -> Split:
    """Return the official name of a split; "dev" and "validation" become "valid".

    Raises:
        UnknownNameError: The split does not exist.
    """
    for split, stems in _STEMS.items():
        if name in stems:
            return split
    raise UnknownNameError("split", name, SPLITS)


def split_file(folder: Path, split: Split, endings: Sequence[str] = (".csv",)) -> Path | None:
    """Return the file of a split in a folder, such as `test.csv` or `valid.csv.gz`; None if there is none."""
    names = (
        folder / f"{stem}{ending}{packed}" for stem in _STEMS[split] for ending in endings for packed in ("", ".gz")
    )
    return next((path for path in names if is_file(path)), None)
