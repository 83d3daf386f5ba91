"""Reads the labelled pairs of EPITOME: one CSV file for each mechanism, the same pairs in each.

The files are those of https://github.com/behavioral-data/Empathy-Mental-Health (its folder `dataset`), plain or
gzipped. They are not part of localemp: that repository has two licence texts and does not say which one covers the
data.
"""

import csv
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from localemp.data.spreadsheet import spelt
from localemp.data.textfile import iterate_lines
from localemp.errors import DataError
from localemp.utils.files import is_file, is_folder
from localemp.utils.text import one_line

MECHANISMS = {"ER": "emotional-reactions", "IP": "interpretations", "EX": "explorations"}
"""The columns of tables, and the names of the files."""
LEVELS = ("0", "1", "2")
COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")
TRAIN, DEV, TEST = "train", "dev", "test"
SHARES = {TRAIN: 0.75, DEV: 0.05, TEST: 0.2}  # the paper's

_ENDINGS = ("-reddit.csv", ".csv", "-reddit.csv.gz", ".csv.gz")
_MOST_ROWS = 200_000
_SOURCE = "fetch the folder `dataset` of github.com/behavioral-data/Empathy-Mental-Health, and give it with --data"


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A seeker's post and a response to it.

    Attributes:
        seeker: What the person who seeks support wrote.
        response: The response.
        levels: For each of `MECHANISMS` 0 (none), 1 (weak) or 2 (strong).
        rationales: For each of `MECHANISMS` the parts of the response that show it.
    """

    seeker: str
    response: str
    levels: tuple[int, ...]
    rationales: tuple[tuple[str, ...], ...]

    @property
    def part(self) -> str:
        """Train, dev or test, by a hash of the seeker's post: no seeker is in two of them, whatever the order."""
        place = int.from_bytes(hashlib.sha256(self.seeker.encode()).digest()[:8], "big") / 2**64
        if place < SHARES[TRAIN]:
            return TRAIN
        return DEV if place < SHARES[TRAIN] + SHARES[DEV] else TEST


@dataclass(frozen=True)
class LabelledPairs:
    """All pairs.

    Attributes:
        pairs: In the files' order.
        sha256: Of the files' texts and labels, whether they are compressed or not.
    """

    pairs: tuple[LabelledPair, ...]
    sha256: str

    @cached_property
    def parts(self) -> dict[str, list[int]]:
        """The positions of the pairs of train, dev and test."""
        found: dict[str, list[int]] = {part: [] for part in SHARES}
        for position, pair in enumerate(self.pairs):
            found[pair.part].append(position)
        return found


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    ids: tuple[str, str]
    seeker: str
    response: str
    level: int
    rationales: tuple[str, ...]


def read_labelled_pairs(folder: Path) -> LabelledPairs:
    """Read the three files of a folder.

    The texts are those of the first file, in which runs of spaces are one: the files differ in them, and in a word here
    and there.

    Raises:
        DataError: A file is missing, damaged, too large or not in this form, or the files have different pairs; gives
            the file and the line.
    """
    paths = [_find(folder, name) for name in MECHANISMS.values()]
    digest = hashlib.sha256()
    files = [list(_rows(path, digest)) for path in paths]
    for path, rows in zip(paths[1:], files[1:], strict=True):
        _check_same(paths[0], files[0], path, rows)
    pairs = tuple(
        LabelledPair(
            same[0].seeker, same[0].response, tuple(row.level for row in same), tuple(row.rationales for row in same)
        )
        for same in zip(*files, strict=True)
    )
    return LabelledPairs(pairs, digest.hexdigest())


def _find(folder: Path, name: str) -> Path:
    for ending in _ENDINGS:
        if is_file(path := folder / f"{name}{ending}"):
            return path
    what = f"has no {name}-reddit.csv" if is_folder(folder) else "is no folder"
    raise DataError(folder, what, _SOURCE)


def _rows(path: Path, digest: "hashlib._Hash") -> Iterator[_Row]:
    reader = csv.reader((f"{line}\n" for line in iterate_lines(path)), strict=True)
    at: dict[str, int] = {}
    seekers: dict[str, tuple[str, int]] = {}
    count = 0
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(path, f"no valid CSV ({error})", "fetch or copy the file again", line) from error
        if not at:
            at = _header(path, fields)
            continue
        if (count := count + 1) > _MOST_ROWS:
            raise DataError(path, f"more than {_MOST_ROWS:,} rows", "is this the right file?", line)
        if not fields:
            continue
        row = _row(path, line, fields, at)
        known, first = seekers.setdefault(row.ids[0], (row.seeker, line))
        if known != row.seeker:
            raise DataError(path, f"{row.ids[0]} has another seeker_post in line {first}", "is a row broken?", line)
        digest.update("\0".join([*row.ids, row.seeker, row.response, str(row.level), *row.rationales, "\n"]).encode())
        yield row
    if not seekers:
        raise DataError(path, "the file has no rows", _SOURCE)


def _header(path: Path, fields: list[str]) -> dict[str, int]:
    names = spelt(fields, COLUMNS)
    if missing := [name for name in COLUMNS if name not in names]:
        raise DataError(path, f"the header lacks {', '.join(missing)}", f"the columns are {', '.join(COLUMNS)}", 1)
    return {name: names.index(name) for name in COLUMNS}


def _row(path: Path, line: int, fields: list[str], at: dict[str, int]) -> _Row:
    if len(fields) <= max(at.values()):
        raise DataError(path, f"{len(fields)} fields instead of {len(COLUMNS)}", "is a row cut off?", line)
    told = {name: fields[place] for name, place in at.items()}
    for name in ("sp_id", "seeker_post", "response_post"):
        if not told[name].strip():
            raise DataError(path, f"{name} is empty", "every row needs one", line)
    level = told["level"].strip()
    with suppress(ValueError, OverflowError):  # a table program may have written 1.0
        level = f"{float(level):g}"
    if level not in LEVELS:
        raise DataError(path, f"the level is {one_line(told['level'])[:50]!r}", "levels are 0, 1 and 2", line)
    seeker, response = _one_spaced(told["seeker_post"]), _one_spaced(told["response_post"])
    rationales = tuple(filter(None, map(_one_spaced, told["rationales"].split("|"))))
    return _Row(line, (told["sp_id"], told["rp_id"]), seeker, response, int(level), rationales)


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _check_same(first: Path, expected: list[_Row], path: Path, rows: list[_Row]) -> None:
    hint = "the three files must have the same pairs in the same order"
    for ours, theirs in zip(rows, expected, strict=False):
        if ours.ids != theirs.ids:
            raise DataError(path, f"another pair than in line {theirs.line} of {first.name}", hint, ours.line)
    if len(rows) != len(expected):
        raise DataError(path, f"{len(rows):,} rows, {first.name} has {len(expected):,}", hint)
