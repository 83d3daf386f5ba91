"""A report: tables, figures and case study of runs, from which the page and all other formats are written."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from localemp.reporting.bold import Best, embolden
from localemp.reporting.case_study import case_study
from localemp.reporting.charts import Figure, figures
from localemp.reporting.cost import Effort, effort_of, effort_table
from localemp.reporting.metric_tables import automatic_tables
from localemp.reporting.provenance import provenance_table
from localemp.reporting.published import Published
from localemp.reporting.systems import System
from localemp.reporting.tables import Note, Table, told_once

_SECTIONS = {
    "automatic": "Automatic metrics",
    "differences": "Differences and their significance",
    "emotions": "By emotion",
    "people": "People and judges",
    "correlation": "Correlations",
    "calibration": "How far judges can be trusted",
    "effort": "Length and cost",
}


@dataclass(frozen=True)
class Report:
    """The contents of a report, independent of its format.

    Attributes:
        systems: The runs.
        published: The paper's results; `published.without_rows()` leaves them out.
        results: Tables of differences between runs, and of people, judges and correlations from a study.
        cases: The number of dialogues in the case study; None for all.
        notes: What a reader has to know first: what is missing, and why. On top of the page, below the first table.
        best: Values that are bold; None for none.
    """

    systems: tuple[System, ...]
    published: Published
    results: tuple[Table, ...] = ()
    cases: int | None = None
    notes: tuple[str, ...] = ()
    best: Best | None = None

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """All tables that have a row, in the order of the sections."""
        first, *others = self._tables
        return (replace(first, notes=(*map(Note, self.notes), *first.notes)), *others)

    @cached_property
    def _tables(self) -> tuple[Table, ...]:
        runs = [system for system in self.systems if system.replies is not None]
        automatic = automatic_tables(self.systems, self.published)
        automatic = automatic if self.best is None else embolden(automatic, self.best)
        tables = [*automatic, *self.results, *self._papers()]
        tables += [effort_table(runs, self._efforts)] if runs else []
        return tuple(sorted(tables, key=lambda table: list(_SECTIONS).index(table.kind)))

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """All figures for which the runs have data."""
        return tuple(
            figures(self.systems, self._efforts, [table for table in self._tables if table.kind == "automatic"])
        )

    @property
    def sections(self) -> list[tuple[str, str, list[Table]]]:
        """Kind, title and tables of every section that is not empty, without `notes`; definitions are told once."""
        tables = told_once(self._tables)
        found = [(kind, title, [table for table in tables if table.kind == kind]) for kind, title in _SECTIONS.items()]
        return [section for section in found if section[2]]

    def case_study(self) -> dict[str, Any]:
        """Return the replies of all runs, by dialogue."""
        return case_study(self.systems, self.cases)

    def made(self) -> tuple[Table | None, tuple[tuple[str, str], ...]]:
        """Return how the runs were made: their differences, and what all share."""
        return provenance_table(self.systems)

    @cached_property
    def _efforts(self) -> list[Effort]:
        return [effort_of(system) for system in self.systems if system.replies is not None]

    def _papers(self) -> list[Table]:
        """The paper's tables of people and correlations, for kinds of ours without rows of the paper."""
        kinds = {table.kind for table in self.results}
        kinds -= {table.kind for table in self.results if any(row.published for row in table.rows)}
        return [table.as_table() for kind in ("people", "correlation") if kind in kinds
                for table in self.published.of(kind)]  # fmt: skip
