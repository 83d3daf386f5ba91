"""`--strategy a,b` points to `localemp experiment`, which takes strategies joined by commas in place of a plan."""

import json

import pytest

import localemp as package
from localemp.errors import OptionError, UnknownNameError
from localemp.experiments.plan import read_plan


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (
            ["generate", "-s", "zero-shot,few-shot", "-m", "llama", "--shots", 2, "--limit", 9, "--out", "x"],
            "localemp experiment zero-shot,few-shot --model llama --shots 2 --limit 9",
        ),
        (["generate", "--strategy=zero-shot, two-stage", "--retry-errors"],
         "localemp experiment zero-shot,two-stage --retry-errors"),
        (["respond", "Hello.", "-s", "zero-shot,two-stage"], "localemp experiment zero-shot,two-stage"),
        (["prompts", "show", "-s", "a,b", "--index", 3, "-d", "samples"], "localemp experiment a,b --data samples"),
    ],
)  # fmt: skip
def test_the_error_has_the_exact_command(localemp, words, command):
    done = localemp(*words)
    assert done.returncode == 2
    assert f"hint: an experiment compares them: {command}\n" in done.stderr
    assert "takes one strategy, and these are 2" in done.stderr


def test_that_command_answers_with_each_and_compares_them(localemp, tmp_path):
    (tmp_path / "script.jsonl").write_text(json.dumps({"reply": "Oh."}) + "\n")
    words = ["experiment", "zero-shot,two-stage", "--script", "script.jsonl", "--sample", 3, "--seed", 4]
    done = localemp(*words, "--no-bertscore", "--out", "e")
    assert done.returncode == 0, done.stderr
    assert "a sample of 3 of 12 dialogues, of 3 of 12 conversations, drawn with seed 4" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "e" / "results.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == ["zero-shot"] * 3 + ["two-stage"] * 3
    assert [line["id"] for line in lines[:3]] == [line["id"] for line in lines[3:]]
    assert json.loads((tmp_path / "e" / "comparisons.json").read_text())["base"] == "zero-shot"


def test_a_plan_draws_the_dialogues_of_all_rows_with_one_seed(tmp_path):
    (tmp_path / "script.jsonl").write_text(json.dumps({"reply": "Oh."}) + "\n")
    plan = package.Plan(
        rows=[{"name": "seed {seed}", "seed": [1, 2]}], sample=4, defaults={"seed": 9},
        after={"score": False, "report": False},
    )  # fmt: skip
    result = package.experiment(plan, script=tmp_path / "script.jsonl", out=tmp_path / "e")
    found = [
        [json.loads(line)["id"] for line in (row.folder / "responses.jsonl").read_text().splitlines()]
        for row in result.rows
    ]
    assert len(found) == 2 and sorted(found[0]) == sorted(found[1])
    assert sorted(found[0]) == [each.id for each in package.load_dialogues("samples", sample=4, seed=9)]
    with pytest.raises(OptionError, match="exclude each other"):
        package.experiment(plan, limit=2, sample=2)
    with pytest.raises(package.LocalempError, match="limit and sample exclude each other"):
        package.Plan(rows=[{"strategy": "zero-shot"}], sample=4, limit=3)


def test_in_python_and_in_plans_it_is_said_as_well():
    with pytest.raises(OptionError, match="one is expected, and these are 2") as caught:
        package.generate(strategy="zero-shot,two-stage")
    assert caught.value.hint == "an experiment compares them: localemp experiment zero-shot,two-stage"
    assert [row.name for row in read_plan("zero-shot, two-stage").rows] == ["zero-shot", "two-stage"]
    with pytest.raises(UnknownNameError, match="unknown strategy 'zero-shto'"):
        read_plan("zero-shto,two-stage")
