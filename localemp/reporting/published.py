"""The paper's results as printed, with table and section (`published.toml`); a user may give another file.

    known = read_published()
    known.table_of(6).value("Empathy", "Spearman").value    # 0.485

Values are texts, so that trailing zeros stay as printed.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from localemp.errors import DataError
from localemp.metrics.registry import metric, metric_entries
from localemp.reporting.tables import NOT_GIVEN, Cell, Note, Row, Table, number
from localemp.utils.text import one_line
from localemp.utils.toml_reader import TOMLError, load_toml
from localemp.utils.validation import format_validation_error

SHIPPED = Path(__file__).with_name("published.toml")
_FORM = "docs/reporting.md has the form of this file"
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_PRINTED = re.compile(r"-?\d+(\.\d+)?%?")
_MISSING = {"-": "not in the paper's table", "": "empty in the paper's table"}

Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=-(10**9), le=10**9)]
Printed = str | int | float


class PublishedTable(BaseModel):
    """One table of the paper.

    Attributes:
        number: The table's number in the paper.
        kind: The kind of our tables that it belongs to.
        title: A title in our words.
        head: What its rows are.
        columns: Our names of its columns: "Dist-1", "F_BERT", "B-2", "Acc".
        source: Table and section of the paper. Required if there is a row.
        about: How its values were made, if they are shown with those of a study.
        rows: A name, then a value for every column: "-" if the paper has a dash, "" if it has nothing.
    """

    model_config = _STRICT

    number: Whole
    kind: Literal["automatic", "people", "correlation"]
    title: Text
    head: Text = "System"
    columns: list[Text] = []
    source: str = ""
    about: str = ""
    rows: list[list[Printed]] = []

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.rows and not self.source.strip():
            raise ValueError("source: rows need one: table and section of the paper")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: one occurs twice")
        known = metric_entries()
        if self.kind == "automatic" and (unknown := [name for name in self.columns if name not in known]):
            raise ValueError(f"columns: {', '.join(unknown)}: not a metric of localemp; known: {', '.join(known)}")
        for count, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns) + 1:
                expected = len(self.columns) + 1
                raise ValueError(f"rows: row {count} has {len(row)} entries, a name and the columns make {expected}")
            if not isinstance(row[0], str) or not row[0].strip():
                raise ValueError(f"rows: row {count} does not start with a name")
            for column, figure in zip(self.columns, row[1:], strict=True):
                if wrong := _wrong(figure, self.kind, column):
                    raise ValueError(f"rows: row {count} ({row[0]}), {column}: {wrong}")
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"rows: {twice[0]} occurs twice")
        return self

    @property
    def names(self) -> list[str]:
        """The names of its rows."""
        return [str(row[0]) for row in self.rows]

    @property
    def origin(self) -> str:
        """The origin of the values, for readers."""
        return f"the paper's Table {self.number}"

    @property
    def read_from(self) -> str:
        """Its source, with the table's number if the source lacks it."""
        named = self.source.startswith(f"Table {self.number}")
        return self.source if named else f"Table {self.number}: {self.source}"

    @property
    def note(self) -> Note:
        """The note below its values: their source, and how they were made."""
        made = f": {self.about}" if self.about else ""
        return Note(f"Rows in grey are the paper's results as printed ({self.read_from}){made}.", defines=True)

    def value(self, row: str, column: str) -> Cell:
        """Return one value as printed and as a number; what the paper does not have has no number.

        Raises:
            KeyError: There is no such row.
        """
        values = {str(name): values for name, *values in self.rows}[row]
        return _cell(dict(zip(self.columns, values, strict=True)).get(column, "-"))

    def row(self, name: str, columns: tuple[str, ...] = (), *, beside: bool = False) -> Row:
        """Return a row with the paper's values of these columns; by default all of its own."""
        cells = tuple(self.value(name, column) for column in columns or self.columns)
        return Row(name, cells, self.origin, published=True, beside=beside)

    def as_table(self) -> Table:
        """Return the whole table as one of ours, with its source."""
        rows = tuple(self.row(name) for name in self.names)
        title = f"{self.title} ({self.origin})"
        return Table(f"paper-{self.number}", self.kind, title, self.head, tuple(self.columns), rows, (self.note,))


class Counterpart(BaseModel):
    """The rows of ours that one row of the paper corresponds to: runs of a strategy, or imports of a format.

    Attributes:
        table, row: The paper's table and row.
        strategy, shots, given: Settings of our runs; the last two are ignored for runs that do not record them.
        against: For a comparison: the strategy of its second system; the others are those of the first.
        format, hypothesis: Of an import; every hypothesis if none is named.
    """

    model_config = _STRICT

    table: int
    row: Text
    strategy: str = ""
    shots: int | None = None
    given: list[str] = []
    against: str = ""
    format: str = ""
    hypothesis: str = ""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if bool(self.strategy) == bool(self.format):
            raise ValueError(f"{self.row}: name a strategy or a format")
        if self.against and not self.strategy:
            raise ValueError(f"{self.row}: against belongs to a strategy")
        return self

    def compares(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Return whether it is the comparison of replies made in these two ways, in this order."""
        return bool(self.against) and self.matches(first) and second.get("strategy") == self.against

    def matches(self, made: Mapping[str, Any]) -> bool:
        """Return whether replies with these settings or this source correspond to the row (or its first system)."""
        if self.strategy:
            same = made.get("strategy") == self.strategy and made.get("shots", self.shots) == self.shots
            return same and (made.get("given") or []) == self.given
        return made.get("format") == self.format and self.hypothesis in ("", made.get("hypothesis"))


class Setup(BaseModel):
    """The settings behind the replies of the paper's own rows, as far as it states them.

    Attributes:
        replies: The number of dialogues.
        data_sha256: The `data_sha256` of a run on the same dialogues.
        settings: Settings by the names in a run's manifest.
    """

    model_config = _STRICT

    replies: int
    data_sha256: str
    settings: dict[str, str | int | float | bool]


class Published(BaseModel):
    """The paper's tables and their setup.

    Attributes:
        paper: How to cite it.
        setup: How its own rows were made; None if the file does not say.
        counterparts: Which of its rows corresponds to which of ours.
        table: Its tables.
    """

    model_config = _STRICT

    paper: Text
    setup: Setup | None = None
    counterparts: list[Counterpart] = []
    table: list[PublishedTable] = []

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        numbers = [table.number for table in self.table]
        if len(set(numbers)) < len(numbers):
            raise ValueError("table: two have the same number")
        rows = {(table.number, name) for table in self.table for name in table.names}
        for each in self.counterparts:
            if (each.table, each.row) not in rows:
                raise ValueError(f"counterparts: Table {each.table} has no row {each.row!r}")
        return self

    def of(self, kind: str) -> list[PublishedTable]:
        """Return the tables of one kind that have rows."""
        return [table for table in self.table if table.kind == kind and table.rows]

    def counterparts_of(self, kind: str) -> list[Counterpart]:
        """Return the counterparts in the tables of one kind."""
        numbers = [table.number for table in self.of(kind)]
        return [each for each in self.counterparts if each.table in numbers]

    def table_of(self, number: int) -> PublishedTable:
        """Return a table by its number in the paper.

        Raises:
            KeyError: It is not known.
        """
        return {table.number: table for table in self.table}[number]

    def without_rows(self) -> "Published":
        """Return the paper's name alone, for a report without its results."""
        return Published(paper=self.paper)


def read_published(path: Path | None = None) -> Published:
    """Read the paper's results: those that ship with localemp, or a user's file.

    Raises:
        DataError: The file is not there, is not valid TOML, or breaks a rule; says which.
    """
    path = path or SHIPPED
    try:
        return Published.model_validate(load_toml(path)[0])
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}", _FORM) from error
    except ValidationError as error:
        raise DataError(path, format_validation_error(error), _FORM) from error
    except TOMLError as error:
        raise DataError(path, str(error), _FORM) from error


def _wrong(figure: Printed, kind: str, column: str) -> str:
    """Return what is wrong with a value; empty if it can be printed."""
    if figure in _MISSING:
        return ""
    value = _value(figure)
    if not math.isfinite(value) or (isinstance(figure, str) and not _PRINTED.fullmatch(figure)):
        return f'{one_line(repr(figure), 40)} is neither a number nor "-"'
    if kind == "automatic":
        low, high = metric(column).bounds
        return "" if low <= value <= high else f"{figure} is not between {low:g} and {high:g}"
    percent = str(figure).endswith("%")
    return f"{figure} is not between 0 and 100" if percent and not 0 <= value <= 100 else ""


def _value(figure: Printed) -> float:
    try:
        return float(str(figure).removesuffix("%"))
    except ValueError:
        return math.nan


def _cell(figure: Printed) -> Cell:
    if isinstance(figure, str) and figure in _MISSING:
        return Cell(NOT_GIVEN, about=_MISSING[figure])
    text = number(figure, 0) if isinstance(figure, int) else str(figure)
    return Cell(text, _value(figure), "as printed in the paper")
