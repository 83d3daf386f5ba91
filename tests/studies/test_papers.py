"""The paper's figures beside a study's: which row stands where, and what is said of it."""

import pytest
from simulated import judged
from small_runs import make_run
from small_study import ASPECTS, small_study

from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.metrics.replies import Replies, replies_of_run
from localemp.reporting.published import read_published
from localemp.sampling import Sampling
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.study import ANSWERS, Study
from localemp.studies.votes import Vote

PAPER = read_published()
ASKED = load_questionnaire()
STRATEGIES = {
    "plain": {"strategy": "zero-shot"},
    "two": {"strategy": "two-stage", "list_labels": True},
    "near": {"strategy": "similar", "shots": 5, "model": "gpt-3.5-turbo"},
    "three": {"strategy": "few-shot", "shots": 3},
    "five": {"strategy": "few-shot", "shots": 5},
}


def study_of(folder, kind, *names):
    """A study of runs that one person has rated: a tie everywhere, or a 3."""
    runs = [make_run(folder / name, {f"d{n}": f"{name} {n}." for n in range(6)}, **STRATEGIES[name]) for name in names]
    study, _ = create_study(folder / "study", [replies_of_run(run) for run in runs], kind, ASKED)
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all(
        [
            Vote("ann", item.id, aspect.name, *(("tie",) if kind == "ab" else (3, reply)))
            for item in study.items
            for aspect in study.manifest.aspects
            for reply in ([""] if kind == "ab" else [reply.key for reply in item.replies])
        ]
    )
    answers.close()
    return study


def tables_of(study, published=PAPER):
    return {table.key: table for table in study_tables(study_results(study), published=published)}


def notes(table):
    return "\n".join(note.text for note in table.notes)


def papers(table):
    """The rows of the paper, each with the row above it and the figures that are there."""
    names = [row.name for row in table.rows]
    figures = [dict(zip(table.columns, [cell.text for cell in row.cells], strict=True)) for row in table.rows]
    return [
        (names[place - 1], row.name, {column: text for column, text in figures[place].items() if text})
        for place, row in enumerate(table.rows)
        if row.published
    ]  # fmt: skip


def test_a_comparison_has_the_papers_votes_below_each_aspect(tmp_path):
    table = tables_of(study_of(tmp_path, "ab", "two", "plain"))["preferences-people-two-vs-plain"]
    assert papers(table) == [
        ("Empathy", "Empathy", {"Win": "59.3%", "Lose": "17.3%"}),
        ("Coherence", "Coherence", {"Win": "48.0%", "Lose": "16.0%"}),
        ("Informativity", "Informativity", {"Win": "64.7%", "Lose": "12.7%"}),
    ]
    assert all(row.beside and row.about == "the paper's Table 4" for row in table.rows if row.published)
    assert "In grey is + Two-stage vs. ChatGPT." in notes(table)
    assert "(Table 4, sections 5.1 and 5.2): 100 dialogues, three annotators: every figure is k of 300" in notes(table)
    assert "Unlike the paper (two): model scripted, theirs gpt-3.5-turbo; list_labels true, theirs false." in notes(
        table
    )
    assert "Unlike the paper (plain): model scripted, theirs gpt-3.5-turbo." in notes(table)


def test_a_comparison_the_other_way_round_has_win_and_lose_exchanged(tmp_path):
    table = tables_of(study_of(tmp_path, "ab", "plain", "near"))["preferences-people-plain-vs-near"]
    assert papers(table)[0] == ("Empathy", "Empathy", {"Win": "25.3%", "Lose": "26.3%"})
    assert "In grey is + SS ICL vs. ChatGPT; win and lose are exchanged" in notes(table)
    assert "Unlike the paper (plain): " in notes(table) and "(near)" not in notes(table)


def test_the_papers_other_comparisons_follow_once(tmp_path):
    tables = tables_of(study_of(tmp_path, "ab", "plain", "two", "near", "three"))
    others = tables["paper-4"]
    assert [row.name for row in others.rows] == [
        *(f"ChatGPT vs. {name}" for name in ("EmpHi", "KEMP", "CEM", "CASE", "Blenderbot")), "+ Knowledge vs. ChatGPT",
    ]  # fmt: skip
    assert others.made == () and tables["raters"].made
    assert list(tables)[6] == "paper-4", "after ours"
    shown = [table.key for table in tables.values() if any(row.published for row in table.rows)]
    assert shown == ["preferences-people-plain-vs-two", "preferences-people-plain-vs-near", "paper-4"]


def test_votes_pooled_as_the_paper_pools_them_are_one_way_to_count(tmp_path):
    study = study_of(tmp_path, "ab", "plain", "two")
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all([Vote("ben", item.id, "Empathy", item.replies[0].key) for item in study.items])
    answers.close()
    table = tables_of(study)["preferences-people-plain-vs-two"]
    assert [row.name for row in table.rows][:4] == ["Empathy", "Empathy, majorities", "Empathy", "Coherence"]
    assert table.rows[0].cells[2].about == "6 of 12 votes" and table.rows[1].cells[2].about == "6 of 6 majorities"
    assert "Rows of votes pool the votes of all raters over all items, as the paper's Table 4 does." in notes(table)


def test_ratings_stand_among_the_papers(tmp_path):
    tables = tables_of(study_of(tmp_path, "rating", "plain", "five", "three"))
    found = papers(tables["ratings-people"])
    figures = {"Empathy": "4.64", "Coherence": "4.68", "Informativity": "4.04", "Fluency": "4.75"}
    assert found[0] == ("five", "ChatGPT", figures)
    assert [name for _, name, _ in found[1:]] == ["EmpHi", "KEMP", "CEM", "CASE", "Blenderbot"]
    assert [row.beside for row in tables["ratings-people"].rows] == [False, False, True, *[False] * 6]
    assert "Table 2, section 5.1): 100 dialogues, three annotators" in notes(tables["ratings-people"])
    assert "Unlike the paper (five): model scripted" in notes(tables["ratings-people"])
    assert "paper-4" not in tables and "paper-2" not in tables


@pytest.mark.parametrize("kind", ["ab", "rating"])
def test_without_published_figures_no_table_has_any(tmp_path, kind):
    study = study_of(tmp_path, kind, "plain", "five")
    for published in (None, PAPER.without_rows()):
        tables = tables_of(study, published)
        assert not any(row.published for table in tables.values() for row in table.rows)
        assert not any("in grey" in notes(table) or "Unlike" in notes(table) for table in tables.values())


def test_a_judges_correlations_stand_above_the_papers(tmp_path):
    study = small_study(tmp_path / "s", items=12)
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all([Vote("ann", f"i{n}", name, f"k{n}-{n % 2}") for n in range(12) for name in ASPECTS])
    answers.close()
    judged(study, "tiny", lambda item, aspect: 1.0 if item % 3 else -1.0)
    table = tables_of(study)["correlation-tiny"]
    assert papers(table) == [
        ("Empathy", "Empathy", {"Spearman": "0.485", "Tau-b": "0.467"}),
        ("Coherence", "Coherence", {"Spearman": "0.467", "Tau-b": "0.449"}),
        ("Informativity", "Informativity", {"Spearman": "0.397", "Tau-b": "0.385"}),
        ("All aspects", "Overall", {"Spearman": "0.458", "Tau-b": "0.441"}),
    ]
    assert "(Table 6, section 5.4): GPT-4 and people in the A/B test" in notes(table)


def test_an_aspect_that_the_study_does_not_ask_is_at_the_end(tmp_path):
    study = small_study(tmp_path / "s", items=4, aspects=("Warmth", "Coherence"))
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all([Vote("ann", f"i{n}", name, f"k{n}-{n % 2}") for n in range(4) for name in ("Warmth", "Coherence")])
    answers.close()
    judged(study, "tiny", lambda item, aspect: 1.0)
    rows = tables_of(study)["correlation-tiny"].rows
    assert [(row.name, row.published) for row in rows] == [
        ("Warmth", False), ("Coherence", False), ("Coherence", True), ("All aspects", False), ("Overall", True),
        ("Empathy", True), ("Informativity", True),
    ]  # fmt: skip


async def test_where_no_person_answered_the_paper_stands_beside_the_judge(tmp_path):
    study = study_of(tmp_path, "ab", "plain", "two")
    judge = Judge(study, JudgePrompts.read(), Sampling())
    with JudgeLog.open(study.folder / "judges" / "tiny", judge.describe()) as lines:
        await judge.ask_all(questions(study), ScriptedEngine([Entry(reply='{"choice": "A"}')]), lines)
    tables = tables_of(study)
    assert len(papers(tables["preferences-people-plain-vs-two"])) == 3
    assert papers(tables["preferences-tiny-plain-vs-two"]) == []
    (study.folder / ANSWERS).unlink()
    assert len(papers(tables_of(study)["preferences-tiny-plain-vs-two"])) == 3


OWN = """
paper = "Another paper"
counterparts = [{ table = 9, row = "b vs. a", strategy = "two-stage", against = "zero-shot" }]
[[table]]
number = 8
kind = "people"
title = "Ratings"
columns = ["Empathy"]
source = "page 3"
rows = [["a", "2.5"], ["b", 3]]
[[table]]
number = 9
kind = "people"
title = "Comparisons"
columns = ["Empathy win", "Empathy lose", "Warmth win"]
source = "page 4"
rows = [["b vs. a", "40.0%", "-", "1%"], ["c vs. a", "20.0%", "5.0%", ""]]
"""


def test_another_papers_tables_are_told_apart_by_their_columns(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    known = read_published(tmp_path / "own.toml")
    tables = tables_of(study_of(tmp_path / "ab", "ab", "two", "plain"), known)
    assert papers(tables["preferences-people-two-vs-plain"]) == [
        ("Empathy", "Empathy", {"Win": "40.0%", "Lose": "–"}),
    ]  # fmt: skip
    assert [row.name for row in tables["paper-9"].rows] == ["c vs. a"] and "paper-8" not in tables
    tables = tables_of(study_of(tmp_path / "rated", "rating", "plain", "five"), known)
    assert [name for _, name, _ in papers(tables["ratings-people"])] == ["a", "b"]
    assert "paper-9" not in tables


def test_the_commands_show_them_and_leave_them_out(localemp):
    study_of(localemp.folder, "ab", "plain", "two")
    shown = localemp("study", "report", "study").stdout
    assert "Empathy, the paper's Table 4" in shown and "ChatGPT vs. EmpHi, the paper's Table 4" in shown
    assert "p (t)" in shown and "n/a in t and p (t) (all): both are the same for every dialogue" in shown
    assert "paper's Table 4)" not in localemp("study", "report", "study", "--published", "none").stdout
    both = localemp("report", "plain", "two", "--study", "study", "--html", "r.html", "--csv", "all.csv")
    assert both.returncode == 0, both.stderr
    rows = (localemp.folder / "all.csv").read_text().splitlines()
    assert sum(row.startswith("paper-4,") for row in rows) == 7 * 6
    assert not any(row.startswith(("paper-2,", "paper-6,")) for row in rows)
    page = (localemp.folder / "r.html").read_text()
    assert "59.3%" in page and "+ Two-stage vs. ChatGPT" in page
    none = localemp("report", "plain", "two", "--study", "study", "--published", "none", "--csv", "none.csv")
    assert none.returncode == 0 and "true" not in (localemp.folder / "none.csv").read_text()
    wrong = localemp("study", "report", "study", "--published", "nowhere.toml")
    assert (wrong.returncode, "nowhere.toml: cannot be read" in wrong.stderr) == (2, True)


def test_a_study_of_files_has_no_counterpart(tmp_path):
    run = replies_of_run(make_run(tmp_path / "r", {"d0": "Oh.", "d1": "No."}))
    systems = [Replies(name, run.items, {"file": "items.jsonl"}) for name in "ab"]
    study, _ = create_study(tmp_path / "s", systems, "ab", ASKED)
    answers = AnswerStore(study.folder / ANSWERS, study)
    answers.put_all([Vote("ann", item.id, "Empathy", "tie") for item in study.items])
    answers.close()
    tables = tables_of(Study.read(study.folder))
    assert len(tables["paper-4"].rows) == 8
    assert not papers(tables["preferences-people-a-vs-b"])
