"""Experiments, judges and scores on hosted models: by batch, in tiers, with efforts; killed and taken up again."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hosted import HostedService, Outcome
from patience import patience, wait_until
from priced import priced_profile
from repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests" / "studies"))
from small_study import small_study

PLAN = """
name = "both"
models = ["mini.toml", "four.toml"]
[[rows]]
strategy = "zero-shot"
[[rows]]
strategy = "two-stage"
[after]
score = false
report = false
"""
KEY = {"OPENAI_API_KEY": "sk-of-a-test"}


@pytest.fixture
def service(tmp_path):
    judges = Outcome(text="A", probabilities={"A": 0.8, "B": 0.1, "C": 0.05})
    with HostedService(rule=lambda body: judges if body.get("logprobs") else None) as service:
        priced_profile(tmp_path / "mini.toml", service)
        priced_profile(tmp_path / "four.toml", service, model="gpt-4o")
        yield service


@contextmanager
def running(localemp, *words):
    """The command in a process of its own, killed at the end of the block."""
    command, environment = localemp.command(*words), {**os.environ, **KEY}
    with subprocess.Popen(
        command, cwd=localemp.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def complete(service, process):
    """Let the service answer whatever comes until the command ends; return what it printed."""

    def ended():
        service.advance()
        return process.poll() is not None

    wait_until(ended, seconds=120)
    told, _ = process.communicate(timeout=patience())
    assert process.returncode == 0, told
    return told


def batches(service):
    """The model and the number of requests of each batch."""
    return sorted((each["model"], each["request_counts"]["total"]) for each in service.summary()["batches"])


def test_models_of_an_experiment_wait_for_their_batches_at_once(localemp, service, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    words = ("experiment", "plan.toml", "--batch", "--limit", 3, "--out", "exp")
    with running(localemp, *words) as process:
        wait_until(lambda: len(service.summary()["batches"]) == 2, process=process)
    assert {each["status"] for each in service.summary()["batches"]} == {"validating"}, "neither waits for the other"
    with running(localemp, *words) as process:  # killed again, between the stages
        wait_until(lambda: service.advance() and len(service.summary()["batches"]) == 4, process=process)
    with running(localemp, *words) as process:
        told = complete(service, process)
    # All first questions of a model's rows share a batch.
    assert batches(service) == [("gpt-4o", 3), ("gpt-4o", 6), ("gpt-4o-mini", 3), ("gpt-4o-mini", 6)]
    assert service.bill.requests == 18, "nothing was asked twice"
    assert sum(" batch " in line for line in told.splitlines() if "3 of 3" in line) == 4, "in the table, the tier"


def test_rows_may_differ_in_effort_and_models_in_their_tier(localemp, service, tmp_path):
    profile = tmp_path / "five.toml"
    priced_profile(profile, service, model="gpt-5", more='[takes]\nreasoning_effort = ["minimal", "low", "high"]\n')
    plan = tmp_path / "plan.toml"
    rows = '[[rows]]\nstrategy = "zero-shot"\nreasoning_effort = ["low", "high"]\n'
    plan.write_text(
        'models = ["five.toml", { model = "five.toml", name = "fast", service_tier = "priority", seed = 2 }]\n'
        f"{rows}[after]\nscore = false\n"
    )
    done = localemp("experiment", "plan.toml", "--limit", 2, "--out", "exp", env=KEY)
    assert done.returncode == 0, done.stderr
    asked = {(each.body.get("reasoning_effort"), each.body.get("service_tier")) for each in service.completions_of()}
    assert asked == {(effort, tier) for effort in ("low", "high") for tier in (None, "priority")}
    table = [line for line in done.stdout.splitlines() if "2 of 2" in line]
    assert [("fast" in line, "priority" in line, "standard" in line) for line in table] == [
        *[(False, False, True)] * 2,
        *[(True, True, False)] * 2,
    ]
    plan.write_text(f'{rows}service_tier = "flex"\n')  # replies are the same: it would be the same run
    assert "all rows of a model share one engine" in localemp("experiment", "plan.toml", env=KEY).stderr


def test_a_judge_is_taken_up_where_its_batch_is(localemp, service, tmp_path):
    study = small_study(tmp_path / "study")
    words = ("study", "judge", "study", "--model", "mini.toml", "--batch", "--name", "j")
    with running(localemp, *words) as process:
        wait_until(lambda: service.summary()["batches"], process=process)
    with running(localemp, *words) as process:
        assert "36 answers, 0 unparsable" in complete(service, process)
    assert batches(service) == [("gpt-4o-mini", 36)]
    assert list((study.folder / "judges" / "j" / "batches").glob("localemp-*"))


def test_several_judges_wait_for_their_batches_at_once(localemp, service, tmp_path):
    small_study(tmp_path / "study", items=2)
    words = ("study", "judge", "study", "--judge", "mini.toml", "--judge", "four.toml", "--batch")
    with running(localemp, *words) as process:
        wait_until(lambda: len(service.summary()["batches"]) == 2, process=process)
    with running(localemp, *words) as process:
        assert complete(service, process).count("12 answers, 0 unparsable") == 2
    assert batches(service) == [("gpt-4o", 12), ("gpt-4o-mini", 12)]


@pytest.fixture
def two_runs(localemp, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"reply": "Oh dear."}) + "\n")
    for name in "ab":
        done = localemp("generate", "--script", script, "--limit", 3, "--out", name, "--seed", ord(name))
        assert done.returncode == 0, done.stderr
    return "a", "b"


def test_choices_of_several_runs_are_asked_at_once_by_batch(localemp, service, two_runs):
    words = ("score", *two_runs, "--judge", "mini.toml", "--batch", "--no-bertscore")
    with running(localemp, *words) as process:
        wait_until(lambda: len(service.summary()["batches"]) == 2, process=process)
    with running(localemp, "score", "b", "a", *words[3:]) as process:
        complete(service, process)
    assert batches(service) == [("gpt-4o-mini", 6)] * 2


@pytest.mark.parametrize("option", [("--batch",), ("--service-tier", "flex"), ("--verbosity", "low")])
def test_options_of_services_are_for_a_judge(localemp, two_runs, option):
    done = localemp("score", "a", "--no-bertscore", *option)
    assert done.returncode == 2
    assert "does nothing without --judge" in done.stderr
