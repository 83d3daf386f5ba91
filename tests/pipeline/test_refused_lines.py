"""Refusals and content filters in runs and of judges: lines that failed with their reason, and never replies."""

import json
import sys

import pytest
from hosted import HostedService, Outcome, Pace, content_filtered
from priced import priced_profile as profile
from repository import REPOSITORY

import localemp
from localemp.runs.run import RESPONSES, read_records

sys.path.insert(0, str(REPOSITORY / "tests" / "studies"))
from small_study import small_study

SORRY = "I'm sorry, but I can't help with that."
ENDS = {
    "refused": (Outcome(refusal=SORRY), f"the model refused: {SORRY}"),
    "filtered": (Outcome(finish_reason="content_filter"), "the content filter withheld the answer"),
    "blocked": (Outcome(error=content_filtered()), "blocked it (self_harm: high): The response was filtered due to"),
}


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine.toml"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
@pytest.mark.parametrize(("end", "told"), ENDS.values(), ids=ENDS)
def test_a_line_that_failed_says_why_and_is_not_asked_again_by_itself(mine, out, end, told, batch):
    with HostedService(rule=lambda body: end, pace=Pace(0.01, 0.01, 0.01, 0.01)) as service:
        model = profile(mine, service)
        result = localemp.generate(model=model, data="samples", limit=2, out=out, batch=batch)
        assert (len(result.answered), result.failed) == (0, 2)
        failures = [record["error"] for record in read_records(out)]
        assert all(told in each["message"] and each["type"] == "RefusalError" for each in failures)
        assert result.bill.paid == pytest.approx(service.bill.total, rel=1e-12)
        asked = len(service.completions_of())
        localemp.generate(model=model, data="samples", limit=2, out=out, batch=batch)
        assert len(service.completions_of()) == asked


def test_a_stage_that_is_refused_ends_its_dialogue(mine, out):
    with HostedService(rule=lambda body: Outcome(refusal="No.")) as service:
        model = profile(mine, service)
        result = localemp.generate(model=model, data="samples", limit=8, out=out, strategy="two-stage")
        assert result.failed == 8
        assert len(service.completions_of()) == 8, "no second stage"
    assert {line["error"]["message"] for line in read_records(out)} == {"the model refused: No."}


def test_a_run_of_an_earlier_version_keeps_its_refusals_as_replies(mine, out):
    with HostedService() as service:
        model = profile(mine, service)
        localemp.generate(model=model, data="samples", limit=2, out=out)
        old = read_records(out)
        old[0]["reply"] = old[0]["stages"][0]["text"] = SORRY
        old[0]["stages"][0]["finish_reason"] = "refusal"
        (out / RESPONSES).write_text("".join(json.dumps(line) + "\n" for line in old))
        result = localemp.generate(model=model, data="samples", limit=3, out=out)
    assert len(result.answered) == 3
    assert next(record["reply"] for record in read_records(out)) == SORRY


def test_a_judge_that_refuses_has_given_no_verdict(localemp, mine, tmp_path):
    study = small_study(tmp_path / "study", items=12)

    def rule(body):
        if "10th time" in str(body):
            return Outcome(refusal="I will not judge that.")
        if "11th time" in str(body):
            return Outcome(error=content_filtered())
        return json.dumps({"choice": "A"})

    with HostedService(rule=rule) as service:
        command = ("study", "judge", "study", "--model", profile(mine, service), "--name", "j")
        done = localemp(*command)
        assert done.returncode == 0, done.stderr
        assert "72 answers, 12 unparsable (16.7%)" in done.stdout
        votes = [json.loads(line) for line in (study.folder / "judges" / "j" / "votes.jsonl").read_text().splitlines()]
        problems = [vote["problem"] for vote in votes if vote.get("answer") is None]
        assert len(problems) == 12 and not any("error" in vote for vote in votes)
        assert problems.count("the model refused: I will not judge that.") == 6
        assert all("(self_harm: high)" in problem for problem in problems if "refused" not in problem)
        assert sum(vote["cost"] for vote in votes) == pytest.approx(service.bill.total)
        again = localemp(*command)
        assert "resuming: 72 of 72 answers already in" in again.stderr


def test_a_judge_that_refuses_too_often_is_given_up_with_its_words(localemp, mine, tmp_path):
    small_study(tmp_path / "study")
    with HostedService(rule=lambda body: Outcome(refusal="I will not judge that.")) as service:
        done = localemp("study", "judge", "study", "--model", profile(mine, service), "--name", "j")
    assert done.returncode == 1
    assert "of 20 answers cannot be read, such as 'the model refused: I will not judge that.'" in done.stderr


def test_a_chat_goes_on_after_a_refusal(localemp, mine):
    rule = lambda body: Outcome(refusal="No.") if "bad" in str(body["messages"][-1]) else "Oh dear."  # noqa: E731
    with HostedService(rule=rule) as service:
        done = localemp("chat", "--model", profile(mine, service), typed="Something bad.\nI lost my keys.\n\n")
    assert done.returncode == 0, done.stderr
    assert "the model refused: No.; try again, or start a new dialogue with /new" in done.stderr
    assert "listener: Oh dear." in done.stdout
