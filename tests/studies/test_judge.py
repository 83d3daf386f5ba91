"""Judges that prefer, guess, fail and talk nonsense, on small studies; the engine is scripted."""

import json
import signal
import sys
from pathlib import Path

import pytest
from patience import wait_until
from small_study import small_study

from localemp.engines.planner import Planner
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.errors import FatalEngineError, JudgeError, OptionError, PromptError
from localemp.runs.journal import newest, read_lines
from localemp.sampling import Sampling
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.judging.verdicts import VOTES, combine, read_judge, read_stats
from localemp.studies.votes import check_vote
from localemp.utils.paths import resource

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

A, B, TIE = ({"reply": json.dumps({"choice": choice})} for choice in ("A", "B", "tie"))
# Prefers the reply of system 0, wherever it stands.
SURE = [{"match": "Reply A: Reply 0", **A}, B]


async def judged(study, entries, sampling=None, votes=1, limit=None):
    """The folder of a judge that answers by a script."""
    engine = ScriptedEngine([Entry(**entry) for entry in entries])
    judge = Judge(study, JudgePrompts.read(), sampling or Sampling(), votes)
    folder = study.folder / "judges" / "scripted"
    with JudgeLog.open(folder, judge.describe()) as answers:
        asked = [each for each in questions(study, votes, limit) if each.id not in answers.answered]
        await judge.ask_all(asked, engine, answers)
    return folder, engine


def script(folder, *entries):
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


async def test_a_judge_that_is_sure_never_flips(tmp_path):
    study = small_study(tmp_path / "study")
    folder, engine = await judged(study, SURE)
    votes, stats = read_judge(folder), read_stats(folder)
    assert [(vote.item, vote.value) for vote in votes[::3]] == [(f"i{n}", f"k{n}-0") for n in range(6)]
    assert {(vote.rater, vote.kind) for vote in votes} == {("scripted", "judge")}
    for vote in votes:
        check_vote(study, vote)
    assert len(engine.calls) == stats.answers == 36
    assert (stats.votes, stats.pairs, stats.flip_rate, stats.first_share, stats.missing) == (18, 18, 0, 0.5, 0)


def test_a_judge_that_always_says_a_gives_ties_alone(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    command = ("study", "judge", "study", "--script", script(tmp_path, A))
    done = localemp(*command)
    assert done.returncode == 0, done.stderr
    assert "36 answers, 0 unparsable (0.0%); 18 votes" in done.stdout
    assert "flips: 18 of 18 (100.0%)" in done.stdout
    assert "do not trust this judge" in done.stdout
    assert "position: 100.0% of choices" in done.stdout
    assert {vote.value for vote in read_judge(study.folder / "judges" / "scripted")} == {"tie"}
    again = localemp(*command)
    assert "resuming: 36 of 36 answers already in" in again.stderr
    assert "flips: 18 of 18" in again.stdout
    other = localemp(*command, "--temperature", 0.7, "--votes", 3)
    assert other.returncode == 1
    assert "votes: 1 in the run, 3 now" in other.stderr
    assert "choose another --name" in other.stderr
    assert localemp(*command, "--votes", 3).returncode == OptionError.exit_code
    assert localemp(*command, "--name", "../mine").returncode == OptionError.exit_code


def test_a_judge_that_talks_nonsense_is_stopped(localemp, tmp_path):
    study = small_study(tmp_path / "study", items=40)
    command = ("study", "judge", "study", "--script", script(tmp_path, {"reply": "I am so sorry to hear that."}))
    done = localemp(*command)
    assert done.returncode == JudgeError.exit_code
    assert "20 of 20 answers cannot be read, such as 'I am so sorry to hear that.'" in done.stderr
    assert "another --model" in done.stderr
    kept = len(newest(read_lines(study.folder / "judges" / "scripted" / VOTES)))
    assert 20 <= kept < 100
    again = localemp(*command)
    assert again.returncode == JudgeError.exit_code
    assert "cannot be read" in again.stderr
    assert len(newest(read_lines(study.folder / "judges" / "scripted" / VOTES))) == kept, "nothing more is asked"
    assert read_judge(study.folder / "judges" / "scripted") == []


async def test_an_order_without_a_readable_answer_gives_no_vote(tmp_path):
    study = small_study(tmp_path / "study")
    folder, _ = await judged(study, [{"match": "Reply A: Reply 0 to 3.", "reply": "Both have merits."}, *SURE])
    stats = read_stats(folder)
    assert (stats.answers, stats.unparsable, stats.votes, stats.missing, stats.flips) == (36, 3, 15, 3, 0)
    assert "i3" not in {vote.item for vote in read_judge(folder)}
    line = next(record for record in newest(read_lines(folder / VOTES)) if record["answer"] is None)
    assert line["problem"] == "it states no answer"


async def test_failures_are_lines_and_asked_again(tmp_path):
    study = small_study(tmp_path / "study")
    failing = [{"match": "Reply A: Reply 1 to 2.", "error": "too-long"}, *SURE]
    folder, _ = await judged(study, failing)
    assert (read_stats(folder).failed, read_stats(folder).missing, read_stats(folder).votes) == (3, 3, 15)
    _, engine = await judged(study, SURE)
    assert len(engine.calls) == 3
    assert (read_stats(folder).failed, read_stats(folder).votes) == (0, 18)


async def test_a_fatal_failure_ends_it_and_keeps_what_came(tmp_path):
    study = small_study(tmp_path / "study")
    with pytest.raises(FatalEngineError):
        await judged(study, [{**A, "times": 20}, {"error": "fatal"}])
    assert read_stats(study.folder / "judges" / "scripted").answers == 20


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_what_was_answered_is_not_asked_again(localemp, tmp_path, end):
    study = small_study(tmp_path / "study", items=16)
    command = ("study", "judge", "study", "--script", script(tmp_path, {**A, "times": 20}, {**A, "seconds": 600}))
    process = localemp.start(*command)
    lines = study.folder / "judges" / "scripted" / VOTES
    wait_until(lambda: lines.exists() and lines.stat().st_size, process=process)
    process.send_signal(end)
    _, said = process.communicate()
    before = lines.read_bytes()
    assert 1 <= before.count(b"\n") < 96
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again to resume" in said
    script(tmp_path, A)
    done = localemp(*command)
    assert done.returncode == 0, done.stderr
    assert lines.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    ids = [json.loads(line)["id"] for line in lines.read_bytes().splitlines()]
    assert len(ids) == len(set(ids)) == 96


async def test_a_limit_takes_items_from_the_start_and_goes_on(tmp_path):
    study = small_study(tmp_path / "study")
    _, engine = await judged(study, SURE, limit=2)
    assert len(engine.calls) == 12
    folder, engine = await judged(study, SURE)
    assert len(engine.calls) == 24
    assert read_stats(folder).votes == 18


# Several votes


def answers_to(*orders):
    """Lines about one pair: for each order what was answered, vote by vote."""
    shown = (["x", "y"], ["y", "x"])
    fixed = {"item": "i", "aspect": "Empathy", "cost": None, "prompt_tokens": None, "completion_tokens": 1, "notes": []}
    return [
        fixed | {"shown": shown[order], "vote": vote, "answer": answer}
        for order, given in enumerate(orders)
        for vote, answer in enumerate(given)
    ]


@pytest.mark.parametrize(
    ("orders", "value", "flips"),
    [
        (["A", "B"], "x", 0),
        (["B", "A"], "y", 0),
        (["A", "A"], "tie", 1),
        ([["tie"], ["tie"]], "tie", 0),
        ([["A"], ["tie"]], "tie", 1),
        (["AAB", "BBB"], "x", 0),
        (["AAB", "AAB"], "tie", 1),
        (["AB", "BB"], "tie", 1),
        (["AB", "AB"], "tie", 0),
        ([["A", None, None], "BBA"], "x", 0),
        ([[None, None], "BB"], None, 0),
        (["A"], None, 0),
    ],
)
def test_votes_and_orders_are_combined(orders, value, flips):
    votes, stats = combine("judge", answers_to(*orders))
    assert [vote.value for vote in votes] == ([] if value is None else [value])
    assert (stats.flips, stats.pairs, stats.missing) == (flips, len(votes), 1 - len(votes))


async def test_ratings_are_about_one_reply_and_their_median_counts(tmp_path):
    study = small_study(tmp_path / "study", "rating", items=3, systems=("a", "b", "c"))
    rules = [
        {"match": "The reply: Reply 0", "reply": ['{"rating": 1}', "5/5", "Rating: 2"]},
        {"match": "The reply: Reply 1", "reply": ['{"rating": 4}', "nothing", '{"rating": 5}']},
        {"reply": "3"},
    ]
    folder, engine = await judged(study, rules, Sampling(temperature=1.0, seed=3), votes=3)
    votes, stats = read_judge(folder), read_stats(folder)
    assert len(engine.calls) == 3 * 3 * 3 * 3
    for vote in votes:
        check_vote(study, vote)
    values = {vote.reply[-1]: vote.value for vote in votes}
    assert values == {"0": 2, "1": 4, "2": 3}
    assert (stats.flip_rate, stats.first_share, stats.unparsable, stats.votes) == (None, None, 9, 27)
    assert {record["seed"] for record in newest(read_lines(folder / VOTES))} == {3, 4, 5}


def test_votes_that_would_all_be_the_same_are_refused(tmp_path):
    with pytest.raises(OptionError, match="the same answer 5 times"):
        Judge(small_study(tmp_path / "study"), JudgePrompts.read(), Sampling(), votes=5)


# What is asked


def test_aspects_of_a_pair_follow_each_other_and_share_what_comes_before(tmp_path):
    study = small_study(tmp_path / "study", items=2)
    judge = Judge(study, JudgePrompts.read(), Sampling())
    asked = questions(study)
    assert [(each.item, each.shown[0], each.aspect) for each in asked[:6]] == [
        ("i0", key, aspect) for key in ("k0-0", "k0-1") for aspect in ("Empathy", "Coherence", "Informativity")
    ]
    first, second, third = (judge.messages(question)[0].content for question in asked[:3])
    shared = first[: first.index("Empathy")]
    assert all(each.startswith(shared) for each in (second, third))
    assert "Reply A: Reply 0 to 0.\n\nReply B: Reply 1 to 0." in shared
    assert "Speaker: I lost my job, for the 0th time." in shared
    assert first.count("Empathy. What Empathy means.") == 1
    assert "plain" not in first, "it must not tell the systems"


def test_replies_with_braces_are_shown_as_they_are(tmp_path):
    study = small_study(tmp_path / "study", items=1)
    item = study.items[0]
    odd = item.model_copy(update={"replies": tuple(r.model_copy(update={"text": "{a} {{b"}) for r in item.replies)})
    (message,) = JudgePrompts.read().messages(study.manifest, odd, study.manifest.aspects[0], ("k0-0", "k0-1"))
    assert "Reply A: {a} {{b\n\nReply B: {a} {{b\n" in message.content


async def test_the_plan_holds_the_longest_prompt(tmp_path):
    study = small_study(tmp_path / "study")
    judge = Judge(study, JudgePrompts.read(), Sampling(max_tokens=10))
    lengths = [len(judge.messages(each)[0].content) for each in questions(study)]
    planner = Planner(lambda messages: messages[0].content, limit=10**6)
    assert await judge.plan(questions(study), planner) == max(lengths) + 10 + 16


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("{about}", "it"), ["ab", "{about}"]),
        (("constrained = true", "tone = 1"), ["constrained", "missing key"]),
        (("{words}", "{lowest}"), ["rating", "{lowest}"]),
    ],
)
def test_a_broken_prompt_file_is_an_error_by_name(tmp_path, change, names):
    path = tmp_path / "mine.toml"
    path.write_text(resource("prompts", "judge.toml").read_text("utf-8").replace(*change))
    with pytest.raises(PromptError) as caught:
        JudgePrompts.read(path)
    assert all(name in caught.value.message for name in [*names, "mine.toml"])


# Judges behind a server


def serve(request):
    """A model that takes no JSON schema and prefers the reply of system 0."""
    if "response_format" in request.body:
        message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
        return error(400, message, type="invalid_request_error", param=None, code=None)
    prompt = request.body["messages"][0]["content"]
    text = json.dumps({"choice": "A"}) if "Reply A: Reply 0" in prompt else "**Answer:** B"
    return Answer(body=completion(message={"role": "assistant", "content": text}))


def test_a_judge_behind_a_server_that_cannot_be_held_to_json(localemp, tmp_path):
    small_study(tmp_path / "study")
    with FakeServer(rule=serve) as server:
        words = ("--model", "tiny", "--base-url", server.url, "--temperature", 0.5, "--votes", 2)
        done = localemp("study", "judge", "study", *words)
    assert done.returncode == 0, done.stderr
    assert "72 answers, 0 unparsable (0.0%); 18 votes" in done.stdout
    assert "flips: 0 of 18 (0.0%)" in done.stdout
    assert "note: response_format dropped: the model refuses it" in done.stdout
    bodies = [request.body for request in server.requests]
    assert {body["seed"] for body in bodies} == {0, 1}
    assert "response_format" not in bodies[-1]


def test_a_judge_that_thinks_is_read_without_its_thoughts(localemp, tmp_path):
    """One pair, in one order, is never answered: the tokens go into thought."""

    def serve(request):
        lost = "Reply A: Reply 1 to 0" in request.body["messages"][-1]["content"]
        text = "<think>B, no." if lost else '<think>Rating: B? No.</think>\n{"choice": "A"}'
        return Answer(body=completion(message={"content": text}, usage=None))

    study = small_study(tmp_path / "study")
    with FakeServer(rule=serve) as server:
        done = localemp("study", "judge", "study", "--model", "tiny", "--base-url", server.url)
    records = newest(read_lines(study.folder / "judges" / "tiny" / VOTES))
    answers = [record for record in records if "error" not in record]
    failed = [record for record in records if "error" in record]
    assert {(record["answer"], record["thinking"]) for record in answers} == {("A", "Rating: B? No.")}
    assert (len(answers), len(failed), done.returncode) == (33, 3, 1)
    assert all("still thinking" in record["error"]["message"] for record in failed)
    assert "unknown tokens/s of prompts and answers" in done.stdout
    assert "tokens: unknown of prompts, unknown of answers" in done.stdout


def test_a_sampling_without_a_schema_is_described_as_ever():
    assert set(Sampling().describe()) == {"max_tokens", "temperature", "top_p", "seed", "stop"}
    assert Sampling(schema="{}").describe()["schema"] == "{}"
