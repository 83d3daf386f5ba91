"""The paper's figures, which of its rows stand beside ours, and what is said to differ."""

import csv
import io
import json
import re

import pytest
from repository import REPOSITORY
from small_runs import four, make_run

from localemp.errors import DataError
from localemp.metrics.replies import replies_of_run
from localemp.metrics.scoring import score_all, write_scores
from localemp.reporting import writers
from localemp.reporting.published import read_published
from localemp.reporting.report import Report
from localemp.reporting.systems import read_systems
from localemp.reporting.tables import Cell, Row, Table

OURS = """
paper = "A paper"
counterparts = [{ table = 1, row = "Other", strategy = "zero-shot" }]
[[table]]
number = 1
kind = "automatic"
title = "Automatic metrics"
columns = ["Dist-1", "B-2"]
source = "made up for this test"
rows = [["Old_Model & Co", 1.50, "-"], ["Other", 2, "3.20"]]
[[table]]
number = 2
kind = "people"
title = "People"
columns = ["Win"]
source = "made up for this test"
rows = [["Old_Model & Co", "40.0%"]]
"""


@pytest.fixture(scope="module")
def paper():
    """The folder of the paper, which the project does not contain."""
    folder = REPOSITORY.parent / "shared" / "paper"
    if not (folder / "tables.json").exists():
        pytest.skip(f"the paper is not here: {folder} (put its text there to compare with it)")
    return folder


def report_of(*paths, published=None, results=()):
    return Report(tuple(read_systems(paths)), read_published(published), tuple(results))


def names(table):
    return [row.name for row in table.rows]


def notes(table):
    return "\n".join(note.text for note in table.notes)


def numbers(number, row):
    table = read_published().table_of(number)
    return [table.value(row, column).value for column in table.columns]


def test_the_shipped_tables_are_those_of_the_paper(paper):
    theirs = json.loads((paper / "tables.json").read_text("utf-8"))
    for number in (1, 2, 3):
        for row in theirs[f"table{number}"]:
            assert numbers(number, row.pop("system")) == list(row.values())
    for row in theirs["table4"]:
        parts = [row[aspect][part] for aspect in ("Empathy", "Coherence", "Informativity") for part in ("win", "lose")]
        assert numbers(4, row["comparison"]) == parts
    aspects = {"Emp.": "Empathy", "Coh.": "Coherence", "Inf.": "Informativity", "Overall": "Overall"}
    for row in theirs["table6"]:
        assert numbers(6, aspects[row["aspect"]]) == [row["spearman"], row["kendall_tau"]]
    for table in read_published().table:
        assert len(table.rows) == len(theirs[f"table{table.number}"])


def test_every_figure_is_printed_so_in_the_papers_text(paper):
    text = re.sub(r"</?u>", "", (paper / "paper.txt").read_text("utf-8"))
    lines = [[cell.strip() for cell in line.split("\t")] for line in text.splitlines()]
    for table in read_published().table:
        for name, *figures in table.rows:
            if table.number == 6:  # the paper's lines begin with the judge, and shorten aspects
                assert any(line[2:] == figures and line[1].startswith(name[:3]) for line in lines if len(line) > 3)
            else:
                assert [name, *figures] in lines


def test_figures_are_as_printed_and_sources_are_said():
    known = read_published()
    assert {table.number: len(table.rows) for table in known.table} == {1: 19, 2: 6, 3: 6, 4: 8, 6: 4}
    assert known.table_of(1).value("EC (Soft)", "Dist-1") == Cell("1.70", 1.7, "as printed in the paper")
    assert known.table_of(4).value("+ Two-stage vs. ChatGPT", "Coherence win").text == "48.0%"
    assert known.table_of(6).value("Overall", "Kendall-Tau").value == 0.441
    acc = {name: known.table_of(1).value(name, "Acc") for name in known.table_of(1).names}
    assert acc["ChatGPT (+ 5-shot)"] == Cell("–", about="not in the paper's table")
    assert acc["GPT-3.5 (+ 5-shot)"] == Cell("–", about="empty in the paper's table")
    assert all(
        re.fullmatch(rf"Table {table.number}, sections? 5\.\d( and 5\.\d)?", table.source) for table in known.table
    )


@pytest.mark.parametrize(
    ("strategy", "settings", "theirs"),
    [
        ("zero-shot", {}, ["ChatGPT (+ 0-shot)"]),
        ("few-shot", {"shots": 1}, ["ChatGPT (+ 1-shot)"]),
        ("few-shot", {"shots": 5}, ["ChatGPT (+ 5-shot)"]),
        ("few-shot", {"shots": 3}, []),
        ("similar", {"shots": 5}, ["+ SS ICL"]),
        ("similar", {"shots": 1}, []),
        ("two-stage", {"given": []}, ["+ Two-stage"]),
        ("two-stage", {}, ["+ Two-stage"]),
        ("two-stage", {"given": ["emotion"]}, ["+ Two-stage (emo)"]),
        ("two-stage", {"given": ["situation"]}, ["+ Two-stage (situ)"]),
        ("two-stage", {"given": ["emotion", "situation"]}, []),
        ("knowledge", {"comet": "comet-bart"}, ["+ Knowledge"]),
        ("similar+two-stage", {"shots": 5, "given": []}, []),
        ("knowledge+two-stage", {"given": []}, []),
    ],
)
def test_a_strategy_has_the_papers_row_right_below_it(tmp_path, strategy, settings, theirs):
    table = report_of(four(tmp_path / "ours", strategy, **settings)).tables[0]
    assert names(table)[0] == "ours"
    assert [row.name for row in table.rows if row.beside] == theirs == names(table)[1 : 1 + len(theirs)]
    assert sum(row.published for row in table.rows) == 25
    assert ("No counterpart in the paper's Tables 1 and 3: ours." in notes(table)) == (not theirs)


@pytest.mark.parametrize(
    ("source", "theirs"),
    [
        ({"format": "moel", "hypothesis": "MOE"}, ["MoEL"]),
        ({"format": "moel", "hypothesis": "trs"}, []),
        ({"format": "mime", "hypothesis": "Beam"}, ["MIME"]),
        ({"format": "empdg", "hypothesis": "Pred"}, ["EmpDG"]),
        ({"format": "empdg-json", "hypothesis": "empDG"}, ["EmpDG"]),
        ({"format": "empdg-json", "hypothesis": "transformer"}, []),
        ({"format": "ec", "hypothesis": "reply"}, ["EC (Hard)", "EC (Soft)"]),
        ({"format": "emphi"}, ["EmpHi"]),
        ({"format": "kemp"}, ["KEMP"]),
        ({"format": "cem", "hypothesis": "Greedy"}, ["CEM"]),
        ({"format": "case"}, ["CASE"]),
        ({"format": "parlai"}, ["Blenderbot"]),
        ({"format": "seek"}, []),
        ({"format": "lines"}, []),
        ({}, []),
    ],
)
def test_a_baselines_output_has_its_own_row_below_it(tmp_path, source, theirs):
    scored = score_all(replies_of_run(four(tmp_path / "z")))
    path = tmp_path / "out.txt.scores.json"
    write_scores(path, type(scored)("out", scored.scores, (), source, scored.sha256))
    table = report_of(path).tables[0]
    assert [row.name for row in table.rows if row.beside] == theirs
    told = "replies of a public file, not those of the paper's table"
    assert (told in notes(table)) == bool(theirs)


def test_runs_of_one_strategy_stand_together_above_the_papers_row(tmp_path):
    runs = [four(tmp_path / name, strategy) for name, strategy in (("z1", "zero-shot"), ("t", "two-stage"))]
    table = report_of(*runs, four(tmp_path / "z2")).tables[0]
    assert names(table)[:6] == ["z1", "z2", "ChatGPT (+ 0-shot)", "t", "+ Two-stage", "MoEL"]
    assert names(table).count("ChatGPT (+ 0-shot)") == 1
    assert [row.name for rule, row in table.parted if rule] == ["t", "MoEL"]


def test_what_differs_is_said_for_the_runs_that_share_it(tmp_path):
    known = read_published().setup
    alike = {"model": "gpt-3.5-turbo", "data_sha256": known.data_sha256, "comet": "comet-bart", "list_labels": None}
    theirs = four(tmp_path / "theirs", "knowledge", **alike)
    other = {"model": "llama", "comet": "comet-mini", "sampling": {"temperature": 0.7}}
    told = notes(report_of(theirs, four(tmp_path / "mine", "knowledge", **other)).tables[0])
    assert "Unlike the paper (theirs): 4 dialogues of its 5,255 of" in told
    assert (
        "Unlike the paper (mine): model llama, theirs gpt-3.5-turbo; temperature 0.7, theirs 0; comet comet-mini, "
        "theirs comet-bart; 4 dialogues, another set than its 5,255 of `--instances published` (Dist falls with the "
        "number of replies)." in told
    )
    listing = notes(report_of(four(tmp_path / "labels", "two-stage", list_labels=True)).tables[0])
    assert "list_labels true, theirs false" in listing


def test_bertscores_model_and_version_are_said_where_it_was_scored(tmp_path):
    run = four(tmp_path / "z")
    scored = score_all(replies_of_run(run))
    made = (("model", "roberta-large"), ("layer", 17), ("rescaled", False), ("bert-score", "0.3.13"))
    like = scored.scores[0]
    bert = type(like)("F_BERT", 0.87, type(like.signature)("f_bert", made, 4, like.signature.items_sha256))
    path = tmp_path / "z.scores.json"
    write_scores(path, type(scored)("z", (*scored.scores, bert), (), {"format": "cem"}, scored.sha256))
    table = report_of(path).tables[0]
    assert "Ours is of roberta-large, layer 17, not rescaled, bert-score 0.3.13." in notes(table)
    assert table.rows[0].cells[table.columns.index("F_BERT")].text == "0.8700", "four decimals, as the paper"
    assert "names no tokens" in notes(report_of(run).tables[0]) and "Ours is" not in notes(report_of(run).tables[0])


def test_without_its_rows_a_report_says_nothing_of_them(tmp_path):
    report = Report(tuple(read_systems([four(tmp_path / "z")])), read_published().without_rows())
    assert names(report.tables[0]) == ["z"]
    assert not re.search("paper's results|Unlike|counterpart", notes(report.tables[0]))


def test_a_file_of_ones_own_takes_the_place_of_the_papers(tmp_path):
    (tmp_path / "paper.toml").write_text(OURS)
    run = four(tmp_path / "z")
    table = report_of(run, published=tmp_path / "paper.toml").tables[0]
    assert names(table) == ["z", "Other", "Old_Model & Co"]
    texts = [[cell.text for cell in row.cells] for row in table.rows[1:]]
    dist, bleu = (table.columns.index(name) for name in ("Dist-1", "B-2"))
    assert [(row[dist], row[bleu]) for row in texts] == [("2", "3.20"), ("1.5", "–")]
    assert "Table 1: made up for this test" in notes(table)
    (tmp_path / "paper.toml").write_text("\n".join(line for line in OURS.splitlines() if "counterparts" not in line))
    assert names(report_of(run, published=tmp_path / "paper.toml").tables[0]) == ["z", "Old_Model & Co", "Other"]


def test_tables_of_people_and_correlations_stand_beside_ours_of_the_same_kind(tmp_path):
    run = four(tmp_path / "z")
    assert [kind for kind, *_ in report_of(run).sections] == ["automatic", "effort"]
    mine = Table("mine", "correlation", "A judge", "Aspect", ("Tau-b",), (Row("Empathy", (Cell("0.5", 0.5),)),))
    (_, _, tables) = next(each for each in report_of(run, results=[mine]).sections if each[0] == "correlation")
    assert [table.key for table in tables] == ["mine", "paper-6"]
    assert tables[1].columns == ("Spearman", "Kendall-Tau") and "Table 6, section 5.4" in notes(tables[1])
    assert all(row.published for row in tables[1].rows)


def test_figures_show_the_counterparts_and_not_all_of_the_paper(tmp_path):
    report = report_of(four(tmp_path / "z"))
    charts = "".join(next(figure for figure in report.figures if figure.key == "metrics").charts)
    assert "ChatGPT (+ 0-shot)" in charts and "MoEL" not in charts


def test_every_form_has_all_rows_of_the_paper_and_the_same_order(tmp_path):
    tables = report_of(four(tmp_path / "z"), four(tmp_path / "k", "knowledge")).tables
    rows = [row for row in csv.DictReader(io.StringIO(writers.csv_long(tables))) if row["published"] == "true"]
    assert len({(row["row"], row["about"]) for row in rows}) == 25
    soft = next(row for row in rows if (row["row"], row["column"]) == ("EC (Soft)", "Dist-1"))
    assert (soft["value"], soft["shown"], soft["about"]) == ("1.7", "1.70", "the paper's Table 1")
    latex, markdown = writers.latex(tables), writers.markdown(tables)
    assert latex.count(r"\textcolor{gray}{EC (Soft)} & \textcolor{gray}{} & \textcolor{gray}{1.70}") == 1
    assert "| *EC (Soft)* (the paper's Table 1) |  | *1.70* |" in markdown
    for text in (latex, markdown, writers.csv_wide(tables[0])):
        places = [text.index(name) for name in ("ChatGPT (+ 0-shot)", "+ Knowledge", "MoEL", "+ Two-stage (situ)")]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('source = "made up for this test"', ""), "table[1]: source: rows need one"),
        (("1.50", '"1,50"'), "row 1 (Old_Model & Co), Dist-1: '1,50' is neither a number nor \"-\""),
        (("1.50", '"1e3"'), "is neither a number"),
        (("1.50", "nan"), "is neither a number"),
        (("1.50", "1" + "0" * 400), "is neither a number"),
        (("1.50", "120"), "Dist-1: 120 is not between 0 and 100"),
        (('"40.0%"', '"140%"'), "table[2]: rows: row 1 (Old_Model & Co), Win: 140% is not between 0 and 100"),
        ((', "-"]', "]"), "rows: row 1 has 2 entries, a name and the columns make 3"),
        (('["Other"', '[" "'), "row 2 does not start with a name"),
        (('["Other"', '["Old_Model & Co"'), "rows: Old_Model & Co occurs twice"),
        (("number = 2", "number = 1"), "two have the same number"),
        (('"B-2"]', '"Dist-1"]'), "columns: one occurs twice"),
        (('"B-2"]', '"Bleu"]'), "columns: Bleu: not a metric of localemp"),
        (('kind = "people"', 'kind = "cats"'), "table[2].kind"),
        (('title = "People"', 'titel = "People"'), "table[2].titel: unknown key"),
        (('row = "Other"', 'row = "Others"'), "counterparts: Table 1 has no row 'Others'"),
        ((', strategy = "zero-shot"', ""), "counterparts[1]: Other: name a strategy or a format"),
        (('strategy = "zero-shot"', 'format = "moel", against = "zero-shot"'), "Other: against belongs to a strategy"),
        (("number = 1", "number ="), "not valid TOML"),
        (('paper = "A paper"', "a = " + "[" * 5000), "nested more than"),
    ],
)
def test_a_table_that_breaks_a_rule_is_one_line_with_file_and_key(tmp_path, change, told):
    path = tmp_path / "paper.toml"
    assert change[0] in OURS
    path.write_text(OURS.replace(*change, 1))
    with pytest.raises(DataError) as caught:
        read_published(path)
    assert told in caught.value.message and "paper.toml" in caught.value.message and "\n" not in caught.value.message
    assert "reporting.md" in caught.value.hint


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_published(tmp_path / "none.toml")


def test_nothing_is_said_to_differ_where_nothing_does(tmp_path):
    setup = read_published().setup
    run = make_run(tmp_path / "z", {str(n): "Oh." for n in range(setup.replies)}, model="gpt-3.5-turbo",
                   data_sha256=setup.data_sha256)  # fmt: skip
    assert "Unlike" not in notes(report_of(run).tables[0])
