"""What `experiment --estimate` says of a plan, and where estimate and truth are afterwards."""

import json
import tomllib

import pytest

import localemp
from localemp.commands.estimate import estimate_experiment
from localemp.errors import LocalempError
from localemp.estimates.recorded import read_compared
from localemp.experiments.folder import read_experiment
from localemp.experiments.plan import Plan
from localemp.utils.paths import resource

PLAN = """
models = ["smollm2"]
data = "talks.jsonl"
[[rows]]
name = "zero"
strategy = "zero-shot"
[[rows]]
name = "again"
strategy = "zero-shot"
variant = "paper"
seed = 7
[[rows]]
name = "two"
strategy = "two-stage"
[after]
score = false
report = false
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talks = [{"id": f"d{number}", "turns": [f"Story number {number}."]} for number in range(4)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    (tmp_path / "mine.toml").write_text(PLAN)
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"reply": "Oh no."}) + "\n")
    return path


def test_every_row_and_their_total(script, tmp_path):
    found = estimate_experiment("mine.toml", script=script)
    assert [row.name for row in found.rows] == ["zero", "again", "two"]
    assert [(row.pending, row.calls, row.shared) for row in found.rows] == [(4, 4, 0), (4, 0, 4), (4, 8, 0)]
    assert (found.total.calls, found.total.shared) == (12, 4)
    assert not (tmp_path / "experiments").exists()


def test_a_second_stage_counts_the_first_answer_though_another_row_asks_for_it(script, tmp_path):
    paper = resource("prompts", "paper.toml").read_text()
    question = tomllib.loads(paper)["two_stage"]["reply"]
    assert question in paper
    (tmp_path / "brief.toml").write_text(paper.replace(question, f"{question} Be brief."))
    rows = [{"name": name, "strategy": "two-stage", "variant": name} for name in ("paper", "brief.toml")]
    alone, both = (
        estimate_experiment(Plan(models=["smollm2"], data="talks.jsonl", rows=chosen), script=script).rows[-1]
        for chosen in (rows[1:], rows)
    )
    assert (alone.calls, both.calls, both.shared) == (8, 4, 4)
    # A second prompt is the first one, 64 tokens of an answer, and the question; half of alone is the mean of both.
    assert both.prompt_tokens - alone.prompt_tokens / 2 > 4 * 64 / 2


def test_estimate_and_truth_stand_side_by_side(script, localemp):
    result = localemp("experiment", "mine.toml", "--script", script)
    assert "estimate, scripted: 12 calls" in result.stderr
    assert "Truth / estimate" in result.stdout
    (folder,) = script.parent.glob("experiments/*")
    for row in read_experiment(folder)["rows"]:
        estimate, truth = read_compared(row["estimate"], row["truth"])
        assert (estimate.name, estimate.calls) == (row["name"], truth.calls)
    assert "Truth / estimate" in localemp("experiment", "show", folder).stdout
    shown = localemp("experiment", "mine.toml", "--script", script, "--estimate", "--json")
    assert [row["pending"] for row in json.loads(shown.stdout)["rows"]] == [0, 0, 0]


def test_a_run_of_the_same_settings_is_not_estimated_again(script):
    localemp.generate(script=script, data="talks.jsonl", limit=3)
    rows = estimate_experiment("mine.toml", script=script).rows
    assert [row.pending for row in rows] == [1, 4, 4]


def test_damaged_estimates_are_not_shown():
    assert read_compared(None, None) is None
    assert read_compared({"calls": "many"}, {"calls": 1}) is None


def test_a_wrong_row_is_named(script):
    with pytest.raises(LocalempError, match="row"):
        estimate_experiment("mine.toml", script=script, data="none.jsonl")


def test_arguments_are_checked_as_those_of_experiment_are(script):
    for call in (estimate_experiment, localemp.experiment):
        with pytest.raises(LocalempError, match="both a model and models"):
            call("mine.toml", models=["smollm2"], model="smollm2")
