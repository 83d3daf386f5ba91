"""Judges whose answers have probabilities: what becomes of them, and which judges are asked so."""

import csv
import io
import json
import math
import sys
from pathlib import Path

import pytest
from small_study import small_study

from localemp.engines.base import Completion
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.errors import JudgeError, OptionError, PromptError, RunError
from localemp.runs.journal import newest, read_lines, read_manifest
from localemp.sampling import Sampling
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.parsing import parse_letter
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.judging.verdicts import VOTES, combine, read_judge, read_stats
from localemp.studies.votes import check_vote
from localemp.utils.paths import resource

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

LETTERS = {"A": "A", "B": "B", "C": "tie"}
# Prefers the reply of system 0 wherever it stands, and whatever is shown first a little.
SURE = [{"match": "Reply A: Reply 0", "choices": {"A": 0.7, "B": 0.1}}, {"choices": {"A": 0.2, "B": 0.5, "C": 0.1}}]
WRITTEN = {"reply": '{"choice": "A"}'}


async def judged(study, entries):
    engine = ScriptedEngine([Entry(**entry) for entry in entries])
    judge = Judge(study, JudgePrompts.read(answers="probabilities"), Sampling())
    folder = study.folder / "judges" / "scripted"
    with JudgeLog.open(folder, judge.describe()) as answers:
        await judge.ask_all(questions(study), engine, answers)
    return folder


def script(folder, *entries):
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


async def test_the_mean_of_both_orders_decides(tmp_path):
    study = small_study(tmp_path / "study")
    folder = await judged(study, SURE)
    votes, stats = read_judge(folder), read_stats(folder)
    for vote in votes:
        check_vote(study, vote)
        assert vote.value == f"k{vote.item[1:]}-0"
        assert vote.confidence == pytest.approx((0.7 / 0.8 + 0.5 / 0.8) / 2)
    assert (stats.flips, stats.pairs, stats.measured, stats.first_share) == (0, 18, 36, 0.5)
    assert (stats.mass, stats.confidence) == (pytest.approx(0.8), pytest.approx(0.75))
    assert stats.first_probability == pytest.approx(0.9 / 1.5)
    line = newest(read_lines(folder / VOTES))[0]
    assert line["probabilities"] == pytest.approx({"A": 0.875, "B": 0.125, "tie": 0})
    assert (line["answer"], line["choice_mass"], "choices" in line) == ("A", pytest.approx(0.8), False)
    assert line["messages"][0]["content"].endswith("C if neither is.")


def order(shown, a, b):
    known = {"A": a, "B": b, "tie": 1 - a - b}
    asked = {"item": "i", "aspect": "Empathy", "shown": shown}
    counted = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0, "notes": []}
    return asked | counted | {"answer": max(known, key=known.get), "probabilities": known, "choice_mass": 1.0}


@pytest.mark.parametrize(
    ("first", "second", "margin", "value", "confidence", "flips"),
    [
        pytest.param((0.8, 0.1), (0.2, 0.7), 0.05, "x", 0.75, 0, id="consistent"),
        pytest.param((0.8, 0.1), (0.6, 0.3), 0.05, "x", 0.55, 1, id="what the place adds cancels out"),
        pytest.param((0.8, 0.1), (0.8, 0.1), 0.05, "tie", 0.1, 1, id="the place alone"),
        pytest.param((0.8, 0.1), (0.78, 0.12), 0.05, "tie", 0.1, 1, id="within the margin"),
        pytest.param((0.8, 0.1), (0.78, 0.12), 0.0, "x", 0.46, 1, id="without a margin"),
        pytest.param((0.3, 0.2), (0.2, 0.3), 0.05, "tie", 0.5, 0, id="a tie is the likeliest"),
        pytest.param((0.1, 0.4), (0.5, 0.0), 0.05, "tie", 0.5, 1, id="a tie beside the better reply"),
    ],
)
def test_orders_are_averaged(first, second, margin, value, confidence, flips):
    (vote,), stats = combine("judge", [order(["x", "y"], *first), order(["y", "x"], *second)], margin)
    assert (vote.value, vote.confidence, stats.flips) == (value, pytest.approx(confidence), flips)


def test_an_order_that_is_only_written_counts_as_ever():
    written = {**order(["y", "x"], 0.8, 0.1), "probabilities": None, "choice_mass": None}
    (vote,), stats = combine("judge", [order(["x", "y"], 0.8, 0.1), written], 0.05)
    assert (vote.value, vote.confidence, stats.measured, stats.flips) == ("tie", None, 1, 1)


async def test_a_rating_is_the_mean_of_the_scale(tmp_path):
    study = small_study(tmp_path / "study", "rating", items=2)
    folder = await judged(study, [{"choices": {"3": 0.1, "4": 0.3, "5": 0.1}}])
    votes, stats = read_judge(folder), read_stats(folder)
    for vote in votes:
        check_vote(study, vote)
    assert all((vote.value, vote.confidence) == (pytest.approx(4.0), pytest.approx(0.6)) for vote in votes)
    assert (stats.flip_rate, stats.first_probability, stats.measured) == (None, None, 12)
    line = newest(read_lines(folder / VOTES))[0]
    assert line["answer"] == 4
    assert set(line["probabilities"]) == set("12345")
    sure = await judged(small_study(tmp_path / "sure", "rating", items=1), [{"choices": {"5": 0.3}}])
    assert {vote.value for vote in read_judge(sure)} == {5}


@pytest.mark.parametrize(
    ("completion", "answer", "measured"),
    [
        (Completion("B", "stop", choices={"A": 0.2, "B": 0.7, "C": 0.1}, choice_mass=0.5), "B", True),
        (Completion("C", "stop"), "tie", False),
        (Completion("**Answer:** C.", "stop"), "tie", False),
        (Completion('{"choice": "A"}', "stop"), "A", False),
        (Completion("Reply B is better.", "stop", choices={"A": 1, "B": 0, "C": 0}, choice_mass=1e-6), "B", False),
        (Completion("B", "stop", choices={"A": 0.0, "B": 1.0, "C": 0.0}, choice_mass=1e-6), None, False),
    ],
)
def test_what_has_no_probability_is_read(tmp_path, completion, answer, measured):
    judge = Judge(small_study(tmp_path / "study"), JudgePrompts.read(answers="probabilities"), Sampling())
    found = judge.measured(completion)
    assert (found["answer"], "probabilities" in found) == (answer, measured)
    assert bool(found["problem"]) == (answer is None)


@pytest.mark.parametrize(
    ("text", "choice"),
    [("A", "A"), ("b", "B"), (" C. ", "tie"), ("(C)", "tie"), ("<think>A or B</think>C", "tie"), ("Choice: B", "B"),
     ("A B", None), ("D", None), ("", None), ("C is neither", None), ("A" * 10**5, None), (": " * 10**5, None)],
)  # fmt: skip
def test_letters_are_read(text, choice):
    found = parse_letter(text, LETTERS)
    assert (found.value if found else None) == choice


async def test_a_model_that_does_not_answer_so_is_stopped(tmp_path):
    study = small_study(tmp_path / "study", items=40)
    with pytest.raises(JudgeError, match=r"all answers together have a probability of 0\.0001") as caught:
        await judged(study, [{"choices": {"A": 0.0001}}])
    assert "--answers written" in caught.value.hint


async def test_a_model_without_letters_or_probabilities_is_asked_for_json(tmp_path):
    study = small_study(tmp_path / "study", items=40)
    with pytest.raises(JudgeError, match=r"20 of 20 answers cannot be read, such as 'I am so sorry\.'") as caught:
        await judged(study, [{"reply": "I am so sorry."}])
    assert "--answers written" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [{"probabilities": {"A": 0.5, "B": 0.5}}, {"probabilities": {"A": 0.9, "B": 0.9, "tie": 0.9}},
     {"probabilities": {"A": 2, "B": -1, "tie": 0}}, {"probabilities": {"A": "much"}}, {"choice_mass": -1}],
)  # fmt: skip
async def test_damaged_probabilities_are_an_error_with_the_line(tmp_path, change):
    folder = await judged(small_study(tmp_path / "study"), SURE)
    lines = (folder / VOTES).read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | change)
    (folder / VOTES).write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match="line 4"):
        read_judge(folder)


# Which judges are asked for probabilities


def test_a_new_judge_is_asked_for_probabilities_and_one_that_began_stays_as_it_is(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    script(tmp_path, *SURE)
    command = ("study", "judge", "study", "--script", "script.jsonl")
    done = localemp(*command)
    assert done.returncode == 0, done.stderr
    assert "probabilities: known of 36 of 36 answers; mean confidence of a vote 75.0%\n" in done.stdout
    assert "mass: the answers that were asked for have a probability of 80.0% together\n" in done.stdout
    assert "position: 60.0% of the probability is for the reply shown first" in done.stdout
    settings = read_manifest(study.folder / "judges" / "scripted")["settings"]
    assert (settings["answers"], settings["margin"], settings["least_mass"]) == ("probabilities", 0.05, 0.01)
    assert settings["sampling"]["choices"] == ["A", "B", "C"]
    assert 'answers: "probabilities" in the run, not set now' in localemp(*command, "--answers", "written").stderr

    script(tmp_path, WRITTEN)
    old = (*command, "--name", "old", "--limit", 2)
    assert localemp(*old).returncode == 0
    script(tmp_path, {**SURE[0], "reply": "B"}, {**SURE[1], "reply": "B"})
    assert localemp(*command, "--name", "old").returncode == 0, "it goes on as it began"
    manifest = read_manifest(study.folder / "judges" / "old")["settings"]
    assert not {"answers", "margin", "least_mass"} & manifest.keys()
    assert read_stats(study.folder / "judges" / "old").measured == 0

    exported = localemp("study", "export", "study").stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert {(row["rater"], bool(row["confidence"])) for row in rows} == {("scripted", True), ("old", False)}
    report = localemp("study", "report", "study", "--json")
    told = {each["who"]: each["judge"] for each in json.loads(report.stdout)["opinions"]}
    assert told["scripted"]["confidence"] == pytest.approx(0.75)
    assert "confidence" not in told["old"]


def test_a_judge_that_would_mostly_write_something_else_is_called_weak(localemp, tmp_path):
    small_study(tmp_path / "study", items=2)
    script(tmp_path, {"choices": {"A": 0.2, "B": 0.13}})
    done = localemp("study", "judge", "study", "--script", "script.jsonl")
    assert "of 33.0% together; it would mostly write something else: trust this judge little\n" in done.stdout


def test_several_votes_are_written(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    script(tmp_path, *({**entry, "reply": "A"} for entry in SURE))
    command = ("study", "judge", "study", "--script", "script.jsonl", "--votes", 2, "--temperature", 0.5)
    assert localemp(*command).returncode == 0
    assert read_stats(study.folder / "judges" / "scripted").measured == 0
    refused = localemp(*command, "--answers", "probabilities", "--name", "other")
    assert refused.returncode == OptionError.exit_code
    assert "the same every time" in refused.stderr


def test_a_prompt_file_says_how_it_is_answered(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    script(tmp_path, *({"choices": {{"C": "="}.get(k, k): v for k, v in each["choices"].items()}} for each in SURE))
    text = resource("prompts", "judge-letters.toml").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(text.replace('tie = "C"', 'tie = "="').replace("C if neither", "= if neither"))
    command = ("study", "judge", "study", "--script", "script.jsonl", "--prompts", "mine.toml")
    assert localemp(*command).returncode == 0
    assert read_stats(study.folder / "judges" / "scripted").measured == 36
    assert (
        'mine.toml says answers = "probabilities"' in localemp(*command, "--answers", "written", "--name", "x").stderr
    )


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (('tie = "C"', 'tie = "a"'), ["letters", "begins like another"]),
        (('tie = "C"', 'tie = ""'), ["letters"]),
        (('answers = "probabilities"', 'answers = "written"'), ["letters"]),
        (("margin = 0.05", "margin = 1.5"), ["margin"]),
        (("margin = 0.05", "margin = nan"), ["margin"]),
    ],
)
def test_wrong_prompts_are_an_error_by_name(tmp_path, change, names):
    path = tmp_path / "mine.toml"
    path.write_text(resource("prompts", "judge-letters.toml").read_text("utf-8").replace(*change))
    with pytest.raises(PromptError) as caught:
        JudgePrompts.read(path)
    assert all(name in caught.value.message for name in names)


def serve(request):
    """A hosted model that gives the probabilities of its tokens, and prefers the reply of system 0."""
    better, other = "AB" if "Reply A: Reply 0" in request.body["messages"][0]["content"] else "BA"
    shares = {better: 0.6, f" {better}": 0.1, other: 0.2, "I": 0.1}
    listed = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    logprobs = {"content": [listed[0] | {"top_logprobs": listed}]}
    return Answer(body=completion(message={"content": better}, logprobs=logprobs))


def test_a_hosted_judge_is_asked_for_log_probabilities(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    with FakeServer(rule=serve) as server:
        done = localemp("study", "judge", "study", "--model", "tiny", "--base-url", server.url)
    assert done.returncode == 0, done.stderr
    folder = study.folder / "judges" / "tiny"
    assert all(vote.confidence == pytest.approx(0.7 / 0.9) for vote in read_judge(folder))
    assert (read_stats(folder).flips, read_stats(folder).measured) == (0, 36)


def test_a_hosted_judge_that_refuses_them_is_read(localemp, tmp_path):
    def refuse(request):
        if "logprobs" in request.body:
            return error(403, "You are not allowed to request logprobs from this model")
        return Answer(body=completion(message={"content": "C"}))

    study = small_study(tmp_path / "study")
    with FakeServer(rule=refuse) as server:
        done = localemp("study", "judge", "study", "--model", "tiny", "--base-url", server.url)
    assert done.returncode == 0, done.stderr
    assert "note: logprobs dropped: the model refuses it" in done.stdout
    assert "probabilities: known of 0 of 36 answers; of the others, what the model wrote counts\n" in done.stdout
    assert "mass" not in done.stdout
    stats = read_stats(study.folder / "judges" / "tiny")
    assert (stats.measured, stats.unparsable, stats.flips, stats.votes) == (0, 0, 0, 18)
