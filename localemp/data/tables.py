"""Reads dialogues from tables of any columns, which the user names (`columns.py`). A row is a dialogue.

A table is a file of separated values (CSV, TSV), JSON lines, a JSON list, or Parquet; a folder has one for each split.
Names of columns count in any case, and without spaces around them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.data.columns import Table, example_of
from localemp.data.conversations import Instances
from localemp.data.reader import Reader, Source
from localemp.data.records import ENDINGS, TABLE, error_at, read_records
from localemp.data.splits import SPLITS, Split, split_files
from localemp.data.spreadsheet import read_rows
from localemp.data.stats import Stats
from localemp.dialogue import Dialogue
from localemp.errors import DataError, UnknownNameError
from localemp.utils.files import is_folder
from localemp.utils.formatting import count
from localemp.utils.json_reader import kind_of
from localemp.utils.paths import at_home
from localemp.utils.text import one_line

SEPARATED = (".csv", ".tsv")
_ESCAPED = {"\\n": "\n", "\\t": "\t"}


class TableReader(Reader):
    """Reads the dialogues of a `Table`."""

    endings = (*SEPARATED, *ENDINGS)
    has_instances = False

    def __init__(self, table: Table) -> None:
        super().__init__(table.path)
        self.table, self.path = table, at_home(table.path)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits in the folder."""
        return tuple(split for split in SPLITS if self._files(split)) if is_folder(self.path) else ()

    @property
    def is_whole(self) -> bool:
        """Whether it is one file."""
        return not is_folder(self.path)

    @property
    def pool(self) -> Source:
        """The default source of exemplars: the folder's training split, or what ships with localemp."""
        return self.table if "train" in self.splits else "bundled"

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of a split; a single file is read whole.

        Raises:
            DataError: The folder does not have the split, a file cannot be read, or a row is no dialogue.
            UnknownNameError: A column does not exist.
        """
        files = self._files(split) if is_folder(self.path) else [self.path]
        if not files:
            here = ", ".join(self.splits) or "none"
            raise DataError(self.path, f"no file of the split {split}; it has {here}", "give another --split")
        found: list[Dialogue] = []
        places: dict[str, str] = {}
        for path in files:
            for unit, number, row in _rows(path, dict(self.table.columns)):
                found.append(dialogue := _dialogue(path, unit, number, row))
                if (earlier := places.setdefault(dialogue.id, f"{unit} {number}")) != f"{unit} {number}":
                    message = f"{earlier} has the same id {one_line(dialogue.id, 60)!r}"
                    raise error_at(path, unit, number, message, "leave id out of --columns: rows are then numbered")
        if not found:
            raise DataError(files[0], "the file has no row", "give a file with at least one dialogue")
        return found

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the splits of a folder, or of a single file under its name."""
        chosen = {str(split): split for split in splits or self.splits} or {self.path.name: SPLITS[-1]}
        return {name: Stats.of_dialogues(self.read(split, instances)) for name, split in chosen.items()}

    def _files(self, split: Split) -> list[Path]:
        return split_files(self.path, split, self.endings)


def _rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the rows of a file, each with its place: the unit and the number; its values are by role."""
    named = {role: name for role, name in columns.items() if role != "separator"}
    separator: dict[str, Any] = {"separator": _ESCAPED.get(text, text)} if (text := columns.get("separator")) else {}
    if Path(path.name.removesuffix(".gz")).suffix in SEPARATED:
        rows = read_rows(path, set(named.values()))
        _, names = next(rows, (0, list[str]()))
        if not names:
            raise DataError(path, "the file is empty", "give a file with at least one dialogue")
        at = {role: names.index(name) for role, name in _found(path, named, names).items()}
        for line, fields in rows:
            if any(fields[len(names) :]):
                message = f"{len(fields)} cells for {count(len(names), 'column')}"
                raise DataError(path, message, "put a text that has the separator in quotation marks", line)
            yield "line", line, {role: fields[n] for role, n in at.items() if n < len(fields)} | separator
        return
    there: dict[str, str] = {}
    seen: dict[str, None] = {}
    # Of a table, only the columns that are named are read.
    wanted = list(_found(path, named, _columns_of(path)).values()) if path.suffix == TABLE else []
    for record in read_records(path, wanted):
        if len(there) < len(named):  # a record may lack what others have
            seen |= dict.fromkeys(record.value)
            # The context must be in the first; without it no record is a dialogue.
            here = {name.strip().casefold() for name in (*record.value, named["context"])}
            found = {
                role: name for role, name in named.items() if name.strip().casefold() in here and role not in there
            }
            there |= _found(path, found, list(record.value))
        values: dict[str, Any] = {role: record.value.get(name) for role, name in there.items()}
        yield record.unit, record.number, values | separator
    if seen:
        _found(path, named, list(seen))


def _columns_of(path: Path) -> list[str]:
    from localemp.data.parquet import first_row

    return list(first_row(path))


def _found(path: Path, named: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return each role's column as the file spells it."""
    spelt: dict[str, list[str]] = {}
    for name in names:
        spelt.setdefault(name.strip().casefold(), []).append(name)
    for role, name in named.items():
        alike = spelt.get(name.strip().casefold(), [])
        if len(alike) > 1 and names.count(name) != 1:
            raise DataError(path, f"{len(alike)} columns are called {one_line(name, 60)}", "rename one of them")
        if not alike:
            known = [one_line(each, 60) for each in names]
            raise UnknownNameError(f"column for {role} in {path}:", name, known, example_of(names) if names else "")
    return {role: name if name in names else spelt[name.strip().casefold()][0] for role, name in named.items()}


def _dialogue(path: Path, unit: str, number: int, row: Mapping[str, Any]) -> Dialogue:
    def failed(message: str, hint: str = "") -> DataError:
        return error_at(path, unit, number, message, hint)

    def text(role: str) -> str | None:
        value = row.get(role)
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise failed(f"{role} must be a text, found {kind_of(value)}")
        return None if value is None else str(value).strip() or None

    context, separator = row.get("context"), row.get("separator")
    if isinstance(context, list):
        for at, turn in enumerate(context, 1):
            if isinstance(turn, bool) or not isinstance(turn, str | int | float):
                raise failed(f"turn {at} of the context must be a text, found {kind_of(turn)}")
        turns = [str(turn).strip() for turn in context]
    else:
        whole = text("context") or ""
        turns = [turn.strip() for turn in whole.split(separator)] if separator else [whole]
        turns = [turn for turn in turns if turn]
    name = text("id") or f"{unit}-{number}"
    try:
        return Dialogue(
            id=name,
            turns=tuple(turns),
            emotion=text("emotion"),
            situation=text("situation"),
            reference=text("response"),
            conversations=(text("conversation") or name,),
        )
    except ValueError as error:
        if not turns:
            raise failed("the context is empty", "fill it, or leave the row out") from error
        raise failed(f"the context: {error}", "the person who is answered has the first turn and the last") from error
