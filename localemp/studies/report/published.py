"""The paper's rows beside a study's: its ratings (Table 2), its comparisons (Table 4), its correlations (Table 6).

A row stands below ours that was made in the same way, else at the end; comparisons that we lack have a table
of their own. Which of the paper's tables these are is seen by their columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localemp.reporting.counterparts import settings_that_differ
from localemp.reporting.published import Published, PublishedTable
from localemp.reporting.tables import Cell, Note, Row, Table, listed
from localemp.studies.report.results import RaterResults, StudyResults
from localemp.studies.report.table_cells import ALL

WIN, LOSE = "{aspect} win", "{aspect} lose"
_CORRELATIONS = {"Spearman": "Spearman", "Tau-b": "Kendall-Tau"}  # our column -> the paper's
_OVERALL = "Overall"
_BLANK = Cell("", about="not in the paper's table")


class PaperResults:
    """The paper's results to be shown next to those of a study.

    Args:
        figures: The study's.
        published: The paper's; None leaves them out.
    """

    def __init__(self, figures: StudyResults, published: Published | None) -> None:
        self._study = figures.study
        self._published = published or Published(paper="none")
        self._people = any(opinion.judge is None for opinion in figures.opinions)
        self._aspects = [aspect.name for aspect in figures.study.manifest.aspects]
        self._beside: set[tuple[int, str]] = set()  # comparisons that stand below ours

    def stand_beside(self, opinion: RaterResults) -> bool:
        """Return whether the paper's human results are shown with these; with a judge's only if no person answered."""
        return opinion.judge is None or not self._people

    def beside_ratings(self, table: Table) -> Table:
        """Return a table of ratings with the paper's systems that people rated by the same aspects."""
        below: dict[str, list[Row]] = {}
        others: list[Row] = []
        notes: list[Note] = []
        for theirs in self._published.of("people"):
            if not set(theirs.columns) & set(self._aspects):
                continue
            differing: list[Note] = []
            for name in theirs.names:
                ours = [system for system in self._study.systems if self._is_rated(theirs, name, system)]
                figures = {column: theirs.value(name, column) for column in theirs.columns}
                row = _row(name, figures, table, theirs, beside=bool(ours))
                (below.setdefault(ours[-1], []) if ours else others).append(row)
                differing += self._differing(ours)
            notes += [theirs.note, *differing]
        return _with(table, below, others, notes)

    def beside_preferences(self, table: Table, first: str, second: str) -> Table:
        """Return our comparison of two systems with the paper's of the same, in either order."""
        below: dict[str, list[Row]] = {}
        notes: list[Note] = []
        for each in self._published.counterparts_of("people"):
            is_same = each.compares(self._made(first), self._made(second))
            if not (is_same or each.compares(self._made(second), self._made(first))):
                continue
            theirs = self._published.table_of(each.table)
            self._beside.add((each.table, each.row))
            for aspect in self._aspects:
                if WIN.format(aspect=aspect) in theirs.columns:
                    ends = [theirs.value(each.row, end.format(aspect=aspect)) for end in (WIN, LOSE)]
                    figures = dict(zip(("Win", "Lose"), ends if is_same else ends[::-1], strict=True))
                    ours = [row.name for row in table.rows if row.name in (aspect, f"{aspect}, majorities")]
                    below.setdefault(ours[-1], []).append(_row(aspect, figures, table, theirs, beside=True))
            turned = "" if is_same else "; win and lose are exchanged, since it names our second system first"
            notes += [theirs.note, Note(f"In grey is {each.row}{turned}."), *self._differing([first, second])]
        return _with(table, below, [], notes)

    def other_comparisons(self) -> Iterator[Table]:
        """Return the paper's comparisons that have no counterpart in ours."""
        if self._study.manifest.scale is not None:
            return
        for theirs in self._published.of("people"):
            whole = theirs.as_table()
            rows = tuple(row for row in whole.rows if (theirs.number, row.name) not in self._beside)
            if rows and any(WIN.format(aspect=aspect) in theirs.columns for aspect in self._aspects):
                yield replace(whole, rows=rows)

    def beside_correlations(self, table: Table) -> Table:
        """Return a judge's correlations with people, with those of the paper's judge, aspect by aspect."""
        below: dict[str, list[Row]] = {}
        others: list[Row] = []
        notes: list[Note] = []
        for theirs in self._published.of("correlation"):
            for name in theirs.names:
                ours = ALL if name == _OVERALL else name
                columns = {ours: own for ours, own in _CORRELATIONS.items() if own in theirs.columns}
                figures = {column: theirs.value(name, own) for column, own in columns.items()}
                there = ours in [row.name for row in table.rows]
                row = _row(name, figures, table, theirs, beside=there)
                (below.setdefault(ours, []) if there else others).append(row)
            notes.append(theirs.note)
        return _with(table, below, others, notes)

    def _made(self, system: str) -> Mapping[str, Any]:
        """Return the settings of the run behind a system; empty for an imported file."""
        made = self._study.key.sources[system].get("settings")
        return made if isinstance(made, Mapping) else {}

    def _is_rated(self, theirs: PublishedTable, name: str, system: str) -> bool:
        return any(
            (each.table, each.row) == (theirs.number, name) and not each.against and each.matches(self._made(system))
            for each in self._published.counterparts_of("people")
        )

    def _differing(self, systems: Sequence[str]) -> list[Note]:
        """Return the differences between the paper's runs and ours that have one of its rows below them."""
        told: dict[str, list[str]] = {}
        if setup := self._published.setup:
            for system in systems:
                if text := "; ".join(settings_that_differ(self._made(system), setup)):
                    told.setdefault(text, []).append(system)
        return [Note(f"Unlike the paper ({listed(names)}): {text}.") for text, names in told.items()]


def _row(name: str, figures: Mapping[str, Cell], table: Table, theirs: PublishedTable, *, beside: bool) -> Row:
    cells = tuple(figures.get(column, _BLANK) for column in table.columns)
    return Row(name, cells, theirs.origin, published=True, beside=beside)


def _with(table: Table, below: Mapping[str, Sequence[Row]], others: Sequence[Row], notes: Sequence[Note]) -> Table:
    """Return a table with rows added below some of ours, by name, and others at its end."""
    rows = [each for row in table.rows for each in (row, *below.get(row.name, ()))]
    return replace(table, rows=(*rows, *others), notes=(*table.notes, *notes))
