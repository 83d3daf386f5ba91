"""`report --bold`: the best values of a column, and those that are not significantly worse."""

import pytest
from small_runs import make_run

import localemp
from localemp.reporting.bold import Best, embolden
from localemp.reporting.tables import Cell, Row, Table
from localemp.reporting.writers import latex, markdown

IDS = [f"d{number:02}" for number in range(40)]
NEAR = {name: f"Tell me more of {name}." for name in IDS}
ALMOST = NEAR | {IDS[0]: "Tell me all."}
FAR = dict.fromkeys(IDS, "I am so sorry to hear that.")


@pytest.fixture
def folder(tmp_path):
    runs = {"near": NEAR, "almost": ALMOST, "far": FAR, "part": {name: NEAR[name] for name in IDS[:9]}}
    return {name: make_run(tmp_path / name, replies) for name, replies in runs.items()}


def bold_in(result, column):
    """Names of the rows that are bold in a column."""
    table = next(table for table in result.tables if column in table.columns)
    return [row.name for row in table.rows if row.cells[table.columns.index(column)].bold]


def test_the_best_is_bold_and_what_is_not_significantly_worse(folder, tmp_path):
    runs = {name: folder[name] for name in ("far", "near", "almost")}
    made = localemp.report(
        runs, bold=True, latex=tmp_path / "t.tex", markdown=tmp_path / "t.md", html=tmp_path / "t.html"
    )
    best = made.report.best
    for column in ("B-2", "B-4", "Dist-1", "ROUGE-L"):
        assert bold_in(made, column) == ["near", "almost"]
    assert bold_in(made, "Self-BLEU") == ["near", "almost"], "lower is better"
    assert bold_in(made, "Repetition") == [], "all are equal"
    assert bold_in(made, "Length") == bold_in(made, "Replies") == [], "neither direction is better"
    assert (best.samples, best.untested) == (1000, ())
    assert not any(row.published and cell.bold for table in made.tables for row in table.rows for cell in row.cells)
    files = [(tmp_path / f"t.{ending}").read_text() for ending in ("tex", "md", "html")]
    value = made.tables[0].rows[[row.name for row in made.tables[0].rows].index("near")].cells[6].text
    for text, form in zip(files, (rf"\textbf{{{value}}}", f"**{value}**", f"<b>{value}</b>"), strict=True):
        assert form in text and "Bold: the best value of a column" in text
    assert not any(cell.bold for table in localemp.report(runs).tables for row in table.rows for cell in row.cells)


def test_what_cannot_be_compared_takes_no_part(folder):
    made = localemp.report({name: folder[name] for name in ("far", "almost", "part")}, bold=True)
    assert bold_in(made, "B-2") == ["almost"], "part has the highest value, of other dialogues"


def test_of_imported_replies_only_the_best_is_bold(folder):
    files = {name: folder[name].parent / f"{name}.scores.json" for name in ("near", "almost")}
    for name, file in files.items():
        localemp.score(folder[name], no_bertscore=True, out=file)
    made = localemp.report(files, bold=True)
    assert bold_in(made, "B-2") == ["near"]
    assert "B-2" in made.report.best.untested
    assert "Not tested, so that only the best is bold: " in made.report.best.note().text


def test_bold_is_only_where_it_is_meant():
    table = Table("t", "automatic", "T", "System", ("P_1", "Q"), (Row("a_b", (Cell("1.0", 1.0, mark="c"), Cell("2"))),))
    best = Best({"P_1": frozenset({"a_b"})}, (), 100, 0)
    (made,) = embolden([table], best)
    assert r"a\_b & \textbf{1.0}$^{c}$ & 2 \\" in latex([made])
    assert r"| a\_b | **1.0**<sup>c</sup> | 2 |" in markdown([made])
    assert embolden([table], Best({}, (), 100, 0)) == [table]
