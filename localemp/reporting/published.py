"""The paper's own figures, as data with their source (`published.toml`); a person may give a fuller file."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from localemp.errors import DataError
from localemp.forms import mistakes
from localemp.metrics.scoring import BERTSCORE, ORDER
from localemp.reporting.tables import NOT_GIVEN, Cell, Row, number
from localemp.utils.toml_reader import TOMLError, load_toml

SHIPPED = Path(__file__).with_name("published.toml")
MISSING = (
    "The paper's rows are not in this copy of localemp: its tables could not be read where localemp was built, and no "
    "figure is written from memory. --published FILE adds them; docs/reporting.md has the file's form."
)
_FORM = "docs/reporting.md has the form of this file"
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)

Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=-(10**9), le=10**9)]


class PublishedTable(BaseModel):
    """One table of the paper.

    Attributes:
        number: As the paper counts.
        kind: Beside which of our tables it belongs.
        title: What it is, in our words.
        columns: Our names of what it has: "Dist-1", "F_BERT", "B-2", "Acc".
        source: Where its figures were read: edition and page. Needed as soon as there is a row.
        rows: The system's name, then a figure for every column, "-" where the paper has none.
    """

    model_config = _STRICT

    number: Whole
    kind: Literal["automatic", "people", "correlation"]
    title: Text
    columns: list[Text] = []
    source: str = ""
    rows: list[list[str | Whole | float]] = []

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.rows and not self.source.strip():
            raise ValueError("source: rows need one: where were the figures read?")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: one is there twice")
        if self.kind == "automatic" and (unknown := [name for name in self.columns if name not in ORDER]):
            raise ValueError(f"columns: {', '.join(unknown)}: no metric of ours; known: {', '.join(ORDER)}")
        for count, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns) + 1:
                expected = len(self.columns) + 1
                raise ValueError(f"rows: row {count} has {len(row)} entries, a name and the columns make {expected}")
            if not isinstance(row[0], str) or not row[0].strip():
                raise ValueError(f"rows: row {count} does not begin with a name")
            for column, value in zip(self.columns, row[1:], strict=True):
                if value != "-" and (isinstance(value, str) or not math.isfinite(value)):
                    raise ValueError(f'rows: row {count} ({row[0]}), {column}: {value!r} is no number and not "-"')
                if column in BERTSCORE and isinstance(value, int | float) and not -1 <= value <= 1:
                    raise ValueError(f"rows: row {count} ({row[0]}), {column}: {value} is not between 0 and 1")
        return self

    def row(self, row: list[str | int | float], columns: tuple[str, ...]) -> Row:
        """A row of ours with the figures that the paper has of these columns."""
        figures = dict(zip(self.columns, row[1:], strict=True))
        return Row(str(row[0]), tuple(_cell(figures.get(name, "-")) for name in columns), self.origin, published=True)

    @property
    def origin(self) -> str:
        """What a reader is told of where the figures come from."""
        return f"the paper's Table {self.number}"


class Published(BaseModel):
    """All that is known of the paper's tables.

    Attributes:
        paper: How to cite it.
        table: Its tables.
    """

    model_config = _STRICT

    paper: Text
    table: list[PublishedTable] = []

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        numbers = [table.number for table in self.table]
        if len(set(numbers)) < len(numbers):
            raise ValueError("table: two have the same number")
        return self

    def of(self, kind: str) -> list[PublishedTable]:
        """The tables of one kind that have rows."""
        return [table for table in self.table if table.kind == kind and table.rows]

    @property
    def empty(self) -> bool:
        """Whether not one row is known."""
        return not any(table.rows for table in self.table)


def read_published(path: Path | None = None) -> Published:
    """Read the paper's figures: those that ship with localemp, or a person's file.

    Raises:
        DataError: The file is not there, is no TOML, or breaks a rule; says which.
    """
    path = path or SHIPPED
    try:
        return Published.model_validate(load_toml(path)[0])
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}", _FORM) from error
    except ValidationError as error:
        raise DataError(path, mistakes(error), _FORM) from error
    except TOMLError as error:
        raise DataError(path, str(error), _FORM) from error


def _cell(value: str | int | float) -> Cell:
    if isinstance(value, str):
        return Cell(NOT_GIVEN, about="not in the paper's table")
    text = str(value)
    return Cell(text if "." in text else number(value, 0), float(value), "as printed in the paper")
