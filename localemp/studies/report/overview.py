"""Several A/B studies at a glance: how often each row of an experiment is preferred to its base row."""

from collections.abc import Mapping

from localemp.reporting.tables import Cell, Table
from localemp.studies.report import cells
from localemp.studies.report.results import StudyResults
from localemp.studies.report.table_cells import Cells, tabled

_NOTE = (
    "Above: wins, losses and ties of the row, pooled votes. Below: its wins among wins and losses, with Wilson's 95 % "
    "interval, which takes votes for independent. 50 % is no preference. The tables below have the tests."
)


def overview_tables(studies: Mapping[str, StudyResults]) -> list[Table]:
    """Return one table with a row for each study and who answered it; nothing without an A/B study of two systems.

    Args:
        studies: The results by the name of the row, which is the study's first system.
    """
    rows: list[tuple[str, Cells]] = []
    dialogues = []
    for name, results in studies.items():
        for opinion in results.opinions:
            pooled = [each for each in opinion.preferences if each.counted == "votes"]
            if pooled:
                base = results.study.systems[-1]
                rows.append(
                    (f"{name} vs. {base}, {opinion.who}", [(each.aspect, cells.outcome(each)) for each in pooled])
                )
                dialogues.append(opinion.dialogues)
    if len(rows) < 2:
        return []
    columns = list(dict.fromkeys(column for _, row in rows for column, _ in row))
    whole = [(name, [(column, dict(row).get(column, Cell("n/a", about="not asked"))) for column in columns])
             for name, row in rows]  # fmt: skip
    return [
        tabled("preferences", "How often rows are preferred to their base row", "Row", whole, [_NOTE], min(dialogues))
    ]
