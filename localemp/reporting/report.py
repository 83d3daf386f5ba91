"""A report: tables, figures and case study of runs; the page and the other forms are written from it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localemp.reporting.case_study import case_study
from localemp.reporting.charts import Figure, figures
from localemp.reporting.cost import Effort, effort_of, effort_table
from localemp.reporting.metric_tables import automatic_tables
from localemp.reporting.provenance import made_table
from localemp.reporting.published import Published
from localemp.reporting.systems import System
from localemp.reporting.tables import Table

_SECTIONS = {
    "automatic": "Automatic metrics",
    "people": "People and judges",
    "correlation": "Correlations",
    "effort": "Length and cost",
}


@dataclass(frozen=True)
class Report:
    """Everything that is shown, before it has a form.

    Attributes:
        systems: The runs.
        published: The paper's figures; `published.without_rows()` leaves them out.
        results: Tables of people, judges and correlations, made elsewhere.
        cases: Dialogues in the case study; all where None.
    """

    systems: tuple[System, ...]
    published: Published
    results: tuple[Table, ...] = ()
    cases: int | None = None

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """All tables that have a row, in the order of the sections."""
        runs = [system for system in self.systems if system.replies is not None]
        tables = [*automatic_tables(self.systems, self.published), *self.results, *self._papers()]
        tables += [effort_table(runs, self._efforts)] if runs else []
        return tuple(sorted(tables, key=lambda table: list(_SECTIONS).index(table.kind)))

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """All figures that the runs have something for."""
        return tuple(figures(self.systems, self._efforts, self.tables[0]))

    @property
    def sections(self) -> list[tuple[str, str, list[Table]]]:
        """Kind, title and tables of every section that has any."""
        found = [
            (kind, title, [table for table in self.tables if table.kind == kind]) for kind, title in _SECTIONS.items()
        ]
        return [section for section in found if section[2]]

    def case_study(self) -> dict[str, Any]:
        """The replies of all runs, by dialogue."""
        return case_study(self.systems, self.cases)

    def made(self) -> tuple[Table | None, tuple[tuple[str, str], ...]]:
        """How the runs were made: what differs, and what all share."""
        return made_table(self.systems)

    @cached_property
    def _efforts(self) -> list[Effort]:
        return [effort_of(system) for system in self.systems if system.replies is not None]

    def _papers(self) -> list[Table]:
        """The paper's tables of people and of correlations, beside ours of a kind that have no rows of the paper."""
        kinds = {table.kind for table in self.results}
        kinds -= {table.kind for table in self.results if any(row.published for row in table.rows)}
        return [table.as_table() for kind in ("people", "correlation") if kind in kinds
                for table in self.published.of(kind)]  # fmt: skip
