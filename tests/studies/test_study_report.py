"""`localemp study report`, and the same tables in `localemp report`."""

import asyncio
import csv
import json

import numpy as np
import pytest
from simulated import Raters, as_votes, judged
from small_runs import four
from small_study import ASPECTS, small_study

from localemp.engines.base import Completion, Engine
from localemp.errors import RunError
from localemp.metrics.replies import Replies, Reply
from localemp.sampling import Sampling
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study, replies_of_items
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.judging.verdicts import read_stats
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.report.results import study_results
from localemp.studies.report.tables import study_tables
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.study import Study
from localemp.studies.votes import Vote


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three raters and a judge."""
    made = small_study(tmp_path_factory.mktemp("studies") / "mine", items=24)
    draw = np.random.default_rng(2)
    answers = AnswerStore(made.folder / "answers.sqlite", made)
    for aspect in ASPECTS:
        values, ahead = Raters().votes(24, draw)
        answers.put_all(as_votes(made, values, aspect, ahead))
    answers.close()
    judged(made, "tiny", lambda item, aspect: float(draw.choice([-1, 1])), flips=12)
    return made


def test_the_report_fits_a_narrow_terminal(localemp, study):
    done = localemp("study", "report", study.folder, env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in done.stdout
    for told in ("plain vs. twostage: 3 people, 24 items", "How far people agree", "What judges do", "tiny and people"):
        assert told in done.stdout
    figures = study_results(study)
    first = figures.opinions[0].preferences[0]
    assert f"{first.win}/72" in done.stdout
    assert f"{figures.agreements[0].alpha.value:.2f}" in done.stdout
    assert "intervals over dialogues are rather too narrow" in " ".join(done.stdout.split())


def test_json_has_every_figure_and_the_seed_repeats_it(localemp, study):
    done = localemp("study", "report", study.folder, "--json", "--seed", 3, "--resamples", 150)
    told = json.loads(done.stdout)
    assert (told["seed"], told["resamples"], told["kind"], told["items"]) == (3, 150, "ab", 24)
    assert [each["who"] for each in told["opinions"]] == ["people", "tiny"]
    assert told["opinions"][1]["judge"]["flip_rate"] > 0.4
    assert told["opinions"][1]["correlations"][0]["tau_b"]["interval"]
    again = study_results(study, Bootstrap(150, 3)).as_dict()
    assert told == json.loads(json.dumps(again))
    assert told != json.loads(json.dumps(study_results(study, Bootstrap(150, 4)).as_dict()))


def test_the_same_tables_are_in_localemp_report(localemp, study, tmp_path):
    tables = ("alone.csv", "with-runs.csv")
    alone = localemp("study", "report", study.folder, "--csv", tables[0], "--latex", "t.tex", "--markdown", "t.md")
    assert alone.returncode == 0, alone.stderr
    run = four(tmp_path / "zero-shot")
    both = localemp("report", run, "--study", study.folder, "--csv", tables[1], "--html", "r.html")
    assert both.returncode == 0, both.stderr
    first, second = (list(csv.DictReader((tmp_path / name).open())) for name in tables)
    keys = {row["table"] for row in first}
    assert keys == {
        "preferences-people-plain-vs-twostage",
        "preferences-tiny-plain-vs-twostage",
        "paper-4",
        "agreement",
        "raters",
        "judges",
        "correlation-tiny",
        "bias-tiny",
        "accuracy-tiny",
        "win-rates-tiny",
    }
    assert first == [row for row in second if row["table"] in keys]
    won = next(row for row in first if row["column"] == "Won")
    assert float(won["low"]) < float(won["value"]) < float(won["high"])
    page = (tmp_path / "r.html").read_text()
    assert "People and judges" in page and "Correlations" in page and "plain vs. twostage: 3 people" in page
    assert "The study has replies of plain and twostage: no run of that name is in this report." in page
    assert "How far people agree" in (tmp_path / "t.md").read_text()
    assert r"\caption{tiny and people}" in (tmp_path / "t.tex").read_text()


def test_one_rater_of_one_rated_item_leaves_reasons(localemp, tmp_path):
    study = small_study(tmp_path / "study", "rating", items=1)
    missing = localemp("study", "report", "study")
    assert (missing.returncode, "no answers yet" in missing.stderr) == (1, True)
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    answers.put_all([Vote("ann", "i0", "Empathy", 4, "k0-0"), Vote("ann", "i0", "Empathy", 2, "k0-1")])
    answers.close()
    done = localemp("study", "report", "study", "--csv", "tables")
    assert done.returncode == 0, done.stderr
    ratings, differences, _ = tables = study_tables(study_results(study))
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {table.key for table in tables}
    assert [cell.text for cell in ratings.rows[0].cells] == ["1", "4.00\nn/a", "n/a", "n/a"]
    assert "n/a in Coherence and Informativity (all): nobody rated it" in [note.text for note in ratings.notes]
    assert [cell.text for cell in differences.rows[0].cells] == ["1", "+2.00\nn/a", "n/a", "n/a", "n/a"]
    assert "n/a in Empathy (all): no interval: one dialogue says nothing about chance" in {
        note.text for note in ratings.notes
    }
    assert "one dialogue says nothing about chance" in " ".join(note.text for note in differences.notes)
    assert study_tables(study_results(study), "a/study")[0].key == "a-study-ratings-people"


def test_captions_name_what_each_comparison_has_and_which_judge_is_not_finished(tmp_path):
    items = [{"id": n, "turns": [f"Hi {n}."], "replies": {name: f"{name} {n}" for name in "xyz"}} for n in range(4)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    study, _ = create_study(tmp_path / "s", replies_of_items(tmp_path / "items.jsonl"), "ab", load_questionnaire())
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    for item in study.items:
        compared = {study.key.systems[reply.key] for reply in item.replies}
        raters = ["ann", "ben"] if compared == {"x", "y"} else ["ann"]
        answers.put_all(
            [Vote(rater, item.id, "Empathy", "tie") for rater in raters if "z" not in compared or "x" in compared]
        )
    answers.close()
    titles = [table.title for table in study_tables(study_results(study))]
    assert titles[:3] == ["x vs. y: 2 people, 4 items", "x vs. z: 1 person, 4 items", "y vs. z: 0 people, 0 items"]


def test_few_dialogues_are_said_where_they_are_few_and_no_two_tables_have_one_key(tmp_path):
    study = small_study(tmp_path / "s", items=40)
    judged(study, "llama-3.1", lambda item, aspect: 1.0 if item < 35 else None)
    lines = judged(study, "llama-3-1", lambda item, aspect: 1.0) / "votes.jsonl"
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[: 5 * 6]))
    tables = [table for table in study_tables(study_results(study)) if table.key.startswith("preferences")]
    assert [table.key for table in tables] == ["preferences-llama-3-1-plain-vs-twostage" + end for end in ("", "-2")]
    few = [any("fewer than 30 dialogues" in note.text for note in table.notes) for table in tables]
    assert dict(zip([table.title.split(": ")[1].split(",")[0] for table in tables], few, strict=True)) == {
        "llama-3.1": False,
        "llama-3-1": True,
    }


class Obedient(Engine):
    """Does what an attention check asks; of two replies it takes the one shown first."""

    name = "obedient"

    async def chat(self, messages, sampling):
        choice = "B" if f"Reply B: {load_questionnaire().check_ab}" in messages[-1].content else "A"
        return Completion(json.dumps({"choice": choice}), "stop", 9, 1)

    def describe(self):
        return {"engine": self.name}


def test_attention_checks_do_not_make_a_judge_look_better(tmp_path):
    said = {name: tuple(Reply(f"d{n}", f"{name} {n}", turns=(f"Hi {n}.",)) for n in range(20)) for name in "xy"}
    systems = [Replies(name, replies) for name, replies in said.items()]
    study, _ = create_study(tmp_path / "s", systems, "ab", load_questionnaire(), sample=10, checks=10)
    judge = Judge(study, JudgePrompts.read(), Sampling())
    with JudgeLog.open(study.folder / "judges" / "tiny", judge.describe()) as answers:
        asyncio.run(judge.ask_all(questions(study), Obedient(), answers))
    assert read_stats(study.folder / "judges" / "tiny").flip_rate == 0.5
    (opinion,) = study_results(study).opinions
    assert (opinion.judge.flip_rate, opinion.judge.answers, opinion.unfinished) == (1.0, 60, "")
    (judges,) = [table for table in study_tables(study_results(study)) if table.key == "judges"]
    assert (
        dict(zip(judges.columns, [cell.text for cell in judges.rows[0].cells], strict=True))["Checks missed"]
        == "0 of 10"
    )


def test_a_judge_that_was_stopped_is_marked_and_a_changed_question_is_refused(tmp_path):
    study = small_study(tmp_path / "s", items=3)
    lines = judged(study, "tiny", lambda item, aspect: 1.0) / "votes.jsonl"
    assert not any("finished" in table.title for table in study_tables(study_results(study)))
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:10]))
    tables = {table.key: table for table in study_tables(study_results(study))}
    assert tables["preferences-tiny-plain-vs-twostage"].title.endswith("(not finished)")
    assert "tiny is not finished: 10 of 18 answers, attention checks aside." in [
        note.text for note in tables["judges"].notes
    ]
    manifest = study.folder / "study.json"
    manifest.write_text(manifest.read_text().replace("A small study", "A better title"))
    assert study_results(Study.read(study.folder)).opinions
    manifest.write_text(manifest.read_text().replace("What Empathy means", "Something else"))
    with pytest.raises(RunError, match=r"changed after tiny judged it \(aspects\)"):
        study_results(Study.read(study.folder))


def test_where_everybody_failed_the_checks_it_says_so(localemp, tmp_path):
    lines = [{"id": n, "turns": ["Hi."], "replies": {"x": "1", "y": "2"}} for n in range(3)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    study, _ = create_study(
        tmp_path / "s", replies_of_items(tmp_path / "items.jsonl"), "ab", load_questionnaire(), sample=2, checks=1
    )
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    answers.put_all([Vote("ann", item.id, "Empathy", "tie") for item in study.items])
    answers.close()
    done = localemp("study", "report", "s", "--drop-failed")
    assert (done.returncode, "no rater is left: all missed half" in done.stderr, "(ann)" in done.stderr) == (
        1,
        True,
        True,
    )
    counted = " ".join(localemp("study", "report", "s").stdout.split())
    assert "more: 1 of 1 (ann; not left out, as `--drop-failed` would do). Answers to attention checks" in counted
