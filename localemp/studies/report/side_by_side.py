"""The votes of several judges side by side: one column for each, and how far they agree with each other."""

from localemp.reporting.tables import Cell, Table
from localemp.studies.report import cells
from localemp.studies.report.captions import BESIDE, BESIDE_AGREEMENT, BESIDE_RATINGS
from localemp.studies.report.opinion_tables import FINE
from localemp.studies.report.results import RaterResults, StudyResults
from localemp.studies.report.table_cells import UNFINISHED, Cells, part_of, tabled

NOT_ASKED = Cell("n/a", about="no answer")


def side_by_side(results: StudyResults) -> list[Table]:
    """Return the table of several judges; nothing where there are fewer than two.

    People stand beside them, where they answered.
    """
    if not results.between_judges:
        return []
    columns = {_head(opinion): _cells_of(results, opinion) for opinion in results.opinions}
    rows: list[tuple[str, Cells]] = []
    for each in results.between_judges:
        row: Cells = [(head, found.get((each.aspect, each.group), NOT_ASKED)) for head, found in columns.items()]
        row.append(("Both", cells.count(each.units, "answered by two judges or more")))
        row.append(("Alpha", cells.estimate(each.alpha)))
        if results.study.manifest.scale is None:
            row.append(("Equal", cells.percent(each.equal)))
        else:
            row.append(("Spearman", cells.estimate(each.spearman)))
        rows.append((part_of(each.aspect, each.group), row))
    notes = [BESIDE if results.study.manifest.scale is None else BESIDE_RATINGS, BESIDE_AGREEMENT]
    dialogues = min(each.dialogues for each in results.between_judges)
    return [tabled("judges-beside", "Judges side by side", "Aspect", rows, notes, dialogues)]


def _head(opinion: RaterResults) -> str:
    return f"{opinion.who if opinion.judge else 'People'}{UNFINISHED if opinion.unfinished else ''}"


def _cells_of(results: StudyResults, opinion: RaterResults) -> dict[tuple[str | None, str | None], Cell]:
    """Return the cell of each aspect and comparison (or system)."""
    if (scale := results.study.manifest.scale) is None:
        pooled = [each for each in opinion.preferences if each.counted == "votes"]
        return {(each.aspect, each.comparison): cells.outcome(each) for each in pooled}
    low, high = scale
    decimals = 2 if high - low <= FINE else 1
    return {(each.aspect, each.system): cells.estimate(each.mean, decimals) for each in opinion.means}
