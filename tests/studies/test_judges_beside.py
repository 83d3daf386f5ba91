"""Several judges in the report: their votes side by side, their agreement, and systems of their own family."""

import json

import pytest
from small_runs import four
from small_study import small_study

from localemp.runs.journal import MANIFEST
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.stats.intervals import Bootstrap

FIRST = [{"match": "Reply A: Reply 0", "reply": "A"}, {"reply": "B"}]  # prefers system 0
TIES = [{"match": "for the 0th time", "reply": "tie"}, *FIRST]  # the same, but for one tie


def ask(localemp, folder, name, *entries):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = localemp("study", "judge", "study", "--script", path, "--name", name)
    assert done.returncode == 0, done.stderr


def beside(study):
    """The table of several judges."""
    tables = study_tables(study_results(study, Bootstrap(200)))
    return [table for table in tables if table.key == "judges-beside"]


def test_votes_of_judges_stand_side_by_side(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    ask(localemp, tmp_path, "one", *FIRST)
    assert beside(study) == [], "one judge has nobody to stand beside"
    ask(localemp, tmp_path, "two", *TIES)
    [table] = beside(study)
    assert (table.title, table.columns) == ("Judges side by side", ("one", "two", "Both", "Alpha", "Equal"))
    row = table.rows[0]
    assert row.name == "Empathy, plain vs. twostage"
    assert [cell.text.split("\n")[0] for cell in row.cells[:3]] == ["6–0–0", "5–0–1", "6"]
    assert row.cells[4].value == pytest.approx(100 * 5 / 6)
    assert any("losses and ties of the comparison" in note.text for note in table.notes)
    assert len(table.rows) == len(study.manifest.aspects)


def test_people_stand_beside_judges_and_are_not_in_their_agreement(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    ask(localemp, tmp_path, "one", *FIRST)
    ask(localemp, tmp_path, "two", *FIRST)
    (tmp_path / "r.csv").write_text(
        "rater,item,aspect,value\n" + "".join(f"anna,i{n},Empathy,k{n}-1\n" for n in range(6))
    )
    assert localemp("study", "import", "study", "r.csv").returncode == 0
    [table] = beside(study)
    assert table.columns == ("People", "one", "two", "Both", "Alpha", "Equal")
    assert table.rows[0].cells[0].text.startswith("0–6–0")
    assert table.rows[1].cells[0].text == "0–0–0\nn/a", "people were not asked of all"
    assert table.rows[0].cells[5].value == 100


def test_ratings_stand_side_by_side_by_system(localemp, tmp_path):
    study = small_study(tmp_path / "study", "rating")
    ask(localemp, tmp_path, "one", {"match": "The reply: Reply 0", "reply": "5"}, {"reply": "2"})
    ask(localemp, tmp_path, "two", {"match": "The reply: Reply 0", "choices": {"4": 0.5, "3": 0.5}}, {"reply": "1"})
    [table] = beside(study)
    assert table.columns == ("one", "two", "Both", "Alpha", "Spearman")
    assert [row.name for row in table.rows[:3]] == ["Empathy, plain", "Coherence, plain", "Informativity, plain"]
    assert [cell.value for cell in table.rows[0].cells[:2]] == [5, 3.5]
    assert [cell.value for cell in table.rows[3].cells[:2]] == [2, 1]


def test_the_report_and_its_page_have_the_table_and_the_family(localemp, tmp_path):
    study = small_study(tmp_path / "study", systems=("Vicuna-7B", "MoEL"))
    ask(localemp, tmp_path, "one", *FIRST)
    ask(localemp, tmp_path, "llama", *TIES)
    manifest = study.folder / "judges" / "llama" / MANIFEST
    told = json.loads(manifest.read_text())
    told["settings"]["model"] = "llama"
    manifest.write_text(json.dumps(told))
    done = localemp("study", "report", "study", "--markdown", "t.md", "--resamples", 200)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "t.md").read_text("utf-8")
    assert "Judges side by side" in text
    assert text.count("llama is of the same family as Vicuna-7B (Llama): judges may prefer") == 1
    figures = json.loads(localemp("study", "report", "study", "--json", "--resamples", 200).stdout)
    assert [opinion.get("own_family") for opinion in figures["opinions"]] == [{"Vicuna-7B": ["Llama"]}, None]
    assert len(figures["judges_agreement"]) == 3
    page = localemp("report", four(tmp_path / "zero-shot"), "--study", "study", "--html", "r.html")
    assert page.returncode == 0, page.stderr
    html = (tmp_path / "r.html").read_text("utf-8")
    assert "Judges side by side" in html
    assert "llama is of the same family as Vicuna-7B (Llama)" in html
    only = json.loads(localemp("study", "report", "study", "--json", "--resamples", 200, "--judge", "one").stdout)
    assert only["judges_agreement"] == []
