"""The splits of a data set, and their files in a folder."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from localemp.errors import UnknownNameError
from localemp.utils.files import is_file, is_folder

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_STEMS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "dev", "validation"),
    "test": ("test",),
}
_MOST_ENTRIES = 10_000


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


def split_files(folder: Path, split: Split, endings: Sequence[str]) -> list[Path]:
    """Return the files of a split in a folder, in order; empty if there are none.

    They lie where `split_file` looks, or as hubs lay them out: in pieces (`train-00000-of-00002.parquet`), in a folder
    of the split (`train/0000.parquet`), after the name of the data set (`empathetic_dialogues-train.parquet`), and any
    of these in a folder `data` or `default`.
    """
    for place in (folder, folder / "data", folder / "default"):
        if not is_folder(place):
            continue
        if (file := split_file(place, split, endings)) is not None:
            return [file]
        names = _names(place)
        for stem in _STEMS[split]:
            for ending in endings:
                pieces = [name for name in names if name.startswith(f"{stem}-") and _is_piece(name, stem, ending)]
                named = [name for name in names if name.endswith(f"-{stem}{ending}")]
                inside = [name for name in _names(place / stem) if name.endswith(ending)]
                if pieces:
                    return [place / name for name in pieces]
                if len(named) == 1:
                    return [place / named[0]]
                if inside:
                    return [place / stem / name for name in inside]
    return []


def _is_piece(name: str, stem: str, ending: str) -> bool:
    number, of, count = name.removeprefix(f"{stem}-").removesuffix(ending).partition("-of-")
    return name.endswith(ending) and bool(of) and number.isdecimal() and count.isdecimal()


def _names(folder: Path) -> list[str]:
    """Return the names of the first entries of a folder, sorted; empty if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, _MOST_ENTRIES) if not entry.name.startswith("."))
    except OSError:
        return []
