"""What `generate --estimate` says, and how it compares with what a run then takes."""

import json
import shutil
from dataclasses import replace

import pytest
from whole_flow import FLOW, write_flow

import localemp
from localemp.data.subset import Subset
from localemp.errors import LocalempError, OptionError, RunError
from localemp.estimates.estimate import Dollars, Estimate, RowEstimate
from localemp.estimates.hosted_tokens import HostedTokenizer
from localemp.estimates.reply_lengths import LengthSources, ReplyLengths
from localemp.estimates.truth import Compared, Truth, compare
from localemp.models.price import Price
from localemp.models.profiles import list_profiles, load_profile
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.protocol.completions import Usage
from localemp.runs.run import read_manifest
from localemp.utils.formatting import duration


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"reply": "Oh no."}) + "\n")
    return path


def hosted(**settings):
    (row,) = localemp.estimate(limit=4, **settings).rows
    return row


def test_dollars_by_list_price(script):
    price = load_profile("gpt-4o-mini").price
    row = hosted(model="gpt-4o-mini", strategy="two-stage")
    assert (row.pending, row.calls, row.seconds, row.most_reply_tokens) == (4, 8, None, 8 * 128)
    assert row.reply_tokens == 8 * 64
    standard = (row.prompt_tokens * price.prompt + row.reply_tokens * price.completion) / 1e6
    assert row.dollars.standard == pytest.approx(standard)
    assert row.dollars.batch == pytest.approx(standard / 2)
    assert row.dollars.cached == pytest.approx(standard), "these prompts are shorter than 1,024 tokens"
    assert row.dollars.most == pytest.approx(standard + (8 * 128 - 8 * 64) * price.completion / 1e6)
    assert "0.15 / 0.6 US dollars" in row.how["dollars"]
    assert row.how["tokens"].startswith("by ")


def test_long_prompts_share_their_exemplars_in_the_providers_cache(script):
    row = hosted(model="gpt-4o", strategy="few-shot", shots=20)
    price = load_profile("gpt-4o").price
    assert 0 < row.cached_tokens < row.prompt_tokens
    assert row.cached_tokens % 128 == 0
    saved = row.cached_tokens * (price.prompt - price.cached) / 1e6
    assert row.dollars.cached == pytest.approx(row.dollars.standard - saved)


def test_a_cache_that_costs_to_write_to(script):
    row = hosted(model="gpt-6-luna", strategy="few-shot", shots=20)
    assert row.cached_tokens == 0
    fresh = row.prompt_tokens * 0.1 + row.reply_tokens * 0.5
    assert row.dollars.standard * 1e6 == pytest.approx(fresh + row.prompt_tokens * 0.025)
    assert "written to its cache" in row.how["dollars"]


def test_a_price_that_nobody_knows(script):
    row = hosted(model="gpt-4o", base_url="http://localhost:1/v1")
    assert (row.dollars, row.cached_tokens) == (None, None)
    assert "no list price" in row.how["dollars"]
    assert "unknown" in row.how["cache"]


def test_no_profile_has_a_discount_that_is_none():
    for profile in list_profiles():
        if profile.price is not None and profile.price.cached is not None:
            assert profile.price.cached < profile.price.prompt


def test_an_answer_costs_less_with_cached_tokens():
    price = Price(prompt=2, completion=8, as_of="2026-03-21")
    assert price.of(Usage(1_000_000, 100_000, cached_tokens=500_000)) == pytest.approx(2.8), "their price is unknown"
    assert price.model_copy(update={"cached": 0.5}).of(
        Usage(1_000_000, 100_000, cached_tokens=500_000)
    ) == pytest.approx(2.05)


def test_every_call_of_every_stage_counts(script, tmp_path):
    row = hosted(model="gpt-4o-mini", strategy=str(write_flow(tmp_path)))
    assert row.calls == 4 * (1 + 1 + 1 + 3 + 1), "candidates and their judge, too"
    assert row.most_reply_tokens == 4 * (16 + 6 * 128), "support has a max_tokens of its own"
    alone = FLOW.replace("n = 3", "").replace('choose = { task = "You are a judge.", ', "# ")
    assert hosted(model="gpt-4o-mini", strategy=str(write_flow(tmp_path, "alone", alone))).calls == 4 * 4
    labels = [part for part in row.how["replies"].split("; ") if part.endswith("the longest label")]
    assert [part.partition(":")[0] for part in labels] == ["support", "reply.choice"]
    assert "stages that run only after some answers are counted for every dialogue" in row.how["tokens"]


def test_each_answer_in_a_prompt_is_as_long_as_those_of_its_stage(script, tmp_path):
    twice = """about = "two at once, quoted together"
[[stages]]
name = "short"
sampling = { max_tokens = 20 }
ask = "A?"
[[stages]]
name = "long"
sampling = { max_tokens = 600 }
ask = "B?"
[[stages]]
name = "reply"
sees = []
ask = "{short} {long} {short}"
"""
    full, half = (
        hosted(
            model="gpt-4o-mini", strategy=str(write_flow(tmp_path, text=twice.replace("{short} {long} {short}", ask)))
        )
        for ask in ("{short} {long} {short}", "{short} and {long}")
    )
    assert full.prompt_tokens - half.prompt_tokens == pytest.approx(4 * 10, abs=12), "half of max_tokens, once more"


def test_thinking_is_not_in_the_prompts_of_later_stages(script):
    without, thinking = (
        hosted(model="gpt-6-luna", strategy="two-stage", reasoning_effort=effort) for effort in ("none", "high")
    )
    assert thinking.reply_tokens > 10 * without.reply_tokens
    most = 128 * without.calls // 2  # the whole of each first answer
    assert without.prompt_tokens <= thinking.prompt_tokens <= without.prompt_tokens + most


def test_an_estimate_makes_no_run_and_counts_only_what_is_pending(script, tmp_path):
    settings = {"script": script, "out": tmp_path / "run"}
    before = localemp.estimate(limit=6, **settings).total
    assert (before.dialogues, before.pending, before.calls) == (6, 6, 6)
    assert not (tmp_path / "run").exists()
    localemp.generate(limit=4, **settings)
    after = localemp.estimate(limit=6, **settings).total
    assert (after.dialogues, after.pending, after.calls) == (6, 2, 2)
    done = localemp.estimate(limit=4, **settings).total
    assert (done.pending, done.calls, done.prompt_tokens, done.cached_tokens) == (0, 0, 0, None)
    with pytest.raises(RunError, match="made with other settings"):
        localemp.estimate(limit=4, seed=5, **settings)


def test_failed_dialogues_are_counted_if_they_are_retried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"error": "engine", "times": 2}) + "\n" + json.dumps({"reply": "Oh."}) + "\n")
    localemp.generate(limit=5, script=script)
    assert localemp.estimate(limit=5, script=script).total.pending == 0
    assert localemp.estimate(limit=5, script=script, retry_errors=True).total.pending == 2


def test_replies_are_assumed_as_long_as_in_a_finished_run(script):
    lone = localemp.estimate(limit=4, script=script).rows[0]
    assert "50% of max_tokens" in lone.how["replies"]
    localemp.generate(limit=10, script=script)
    again = localemp.estimate(script=script, limit=12).rows[0]
    assert (again.pending, again.reply_tokens) == (2, 2 * 2)
    assert "the mean of 10 completions in this run" in again.how["replies"]
    near = localemp.estimate(script=script, limit=4, strategy="few-shot").rows[0]
    assert near.reply_tokens == 4 * 2
    assert "the mean of 10 completions in runs/scripted-zero-shot" in near.how["replies"]
    other = localemp.estimate(script=script, limit=4, max_tokens=32).rows[0]
    assert other.reply_tokens == 4 * 16, "another max_tokens makes other lengths"


def test_a_run_says_its_estimate_and_keeps_it_with_the_truth(script, caplog):
    caplog.set_level("INFO")
    result = localemp.generate(limit=4, script=script, strategy="two-stage")
    assert result.estimate.total.calls == 8
    assert "estimate: 8 calls" in caplog.text
    session = read_manifest(result.folder)["sessions"][-1]
    assert session["estimate"]["calls"] == session["truth"]["calls"] == 8
    assert session["truth"]["reply_tokens"] == 16
    assert localemp.generate(limit=4, script=script, strategy="two-stage").estimate is None, "nothing was left to do"


def test_the_command(localemp, tmp_path):
    shown = localemp("generate", "--model", "gpt-4o-mini", "--limit", 3, "--estimate", "--json")
    found = json.loads(shown.stdout)
    assert found["total"]["calls"] == found["rows"][0]["pending"] == 3
    assert found["rows"][0]["dollars"]["standard"] > 0
    shown = localemp("generate", "--model", "gpt-4o-mini", "--limit", 3, "--estimate")
    assert "in the batch tier" in shown.stdout
    assert not (tmp_path / "runs").exists()
    for words, said in (
        (["--json"], "--json does nothing without --estimate"),
        (["--estimate", "--ray", "local"], "leave one of them out"),
    ):
        wrong = localemp("generate", *words)
        assert (wrong.returncode, said in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "gtp-4o"}, "unknown model"),
        ({"limit": 0}, "limit"),
        ({"strategy": "two-stage", "given": ("emotion",), "data": "bare.jsonl"}, "has no emotion"),
        ({"data": "none.jsonl"}, "none.jsonl"),
    ],
)
def test_wrong_input_is_told_before_anything_is_made(script, tmp_path, settings, match):
    (tmp_path / "bare.jsonl").write_text(json.dumps({"id": "a", "turns": ["I lost my keys."]}) + "\n")
    with pytest.raises(LocalempError, match=match):
        localemp.estimate(**settings)
    assert not (tmp_path / "runs").exists()


async def test_in_a_running_loop(script):
    with pytest.raises(OptionError, match="event loop"):
        localemp.estimate(script=script)


def test_totals():
    row = RowEstimate("a", "m", "s", 4, 4, 4, 100, 50, 40, 80, seconds=2.0, dollars=Dollars(2, None, 1, 3))
    both = Estimate((row, replace(row, name="b", dollars=Dollars(2, 1, None, 3))), None).total
    assert (both.calls, both.prompt_tokens, both.cached_share, both.seconds) == (8, 200, 0.5, 4.0)
    assert both.dollars == Dollars(4, 3, None, 6)
    unknown = Estimate((row, replace(row, seconds=None, cached_tokens=None))).total
    assert (unknown.seconds, unknown.cached_tokens) == (None, None)
    assert Estimate((row,)).line.startswith("about 2 s; 4 calls, 100 prompt tokens, 50% from the prefix cache")


def test_truth_of_runs_that_overlap():
    one = Tally(2, done=2, calls=2, prompt_tokens=10, completion_tokens=4, cached_tokens=6, started=10.0, ended=14.0)
    two = Tally(2, done=2, calls=2, prompt_tokens=10, completion_tokens=4, started=11.0, ended=16.0)
    assert Truth.of([one, two]) == Truth(4, 20, 6, 8, 6.0, 0.0)
    assert Truth.of([replace(one, uncounted=1)]).prompt_tokens is None
    row = RowEstimate("a", "m", "s", 2, 2, 2, 10, 5, 8, 16, seconds=8.0)
    found = {each.name: each.ratio for each in compare(row, Truth.of([one]))}
    assert found == {"calls": 1.0, "prompt_tokens": 1.0, "cached_tokens": 1.2, "reply_tokens": 0.5, "seconds": 0.5}
    assert Compared("seconds", 0.0, 1.0).ratio is None
    thought = compare(row, Truth.of([replace(one, thinking_tokens=3)]))
    assert Compared("thinking_tokens", None, 3) in thought, "shown beside an estimate that nobody can make"
    assert Truth.of([one, replace(two, thinking_tokens=None)]).thinking_tokens is None


def test_durations():
    assert [duration(each) for each in (0.4, 40, 200, 7800)] == ["0 s", "40 s", "3 min", "2 h 10 min"]


def test_tokens_of_hosted_models_are_counted_by_characters_without_tiktokens_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tokenizer = HostedTokenizer("gpt-4o")
    assert tokenizer.how == "by characters, 4 a token"
    assert tokenizer.count("I lost my keys.") == 4
    message = localemp.Message("user", "I lost my keys.")
    assert len(tokenizer.encode([message, message])) == 2 * (3 + 4) + 3


def test_rows_of_an_experiment_read_each_finished_run_once(script):
    done = localemp.generate(limit=10, script=script)
    sources = LengthSources()
    rows = [Batch(Pipeline(RunConfig(script=script, seed=seed)), subset=Subset(1)) for seed in range(2)]
    first = ReplyLengths(rows[0], sources).of("reply", 128)
    assert "the mean of 10 completions" in first.how
    shutil.rmtree(done.folder)
    assert ReplyLengths(rows[1], sources).of("reply", 128).tokens == first.tokens
    assert "50% of max_tokens" in ReplyLengths(rows[1], LengthSources()).of("reply", 128).how


def test_runs_with_few_replies_count_together(script):
    localemp.generate(limit=4, script=script)
    few = localemp.estimate(script=script, limit=4, strategy="two-stage").rows[0]
    assert "50% of max_tokens, as runs of this model with it have fewer than 8 completions here" in few.how["replies"]
    localemp.generate(limit=4, script=script, strategy="few-shot", shots=1)
    both = localemp.estimate(script=script, limit=4, strategy="two-stage").rows[0]
    assert "reply: 2 tokens, the mean of 8 completions in 2 runs with few each" in both.how["replies"]
    assert "feeling: 64 tokens, 50% of max_tokens" in both.how["replies"]


@pytest.mark.slow
def test_measuring_the_machine_is_told(script):
    told = []
    localemp.estimate(limit=1, model="smollm2", on_progress=lambda step: told.append(step.task))
    assert told[-1] == "Measuring this machine's peak"


def test_candidates_of_one_request_count_their_prompt_once(script, tmp_path):
    two, four = (
        hosted(model="gpt-4o-mini", strategy=str(write_flow(tmp_path, text=FLOW.replace("n = 3", f"n = {number}"))))
        for number in (2, 4)
    )
    assert (two.calls, four.calls) == (4 * 6, 4 * 8)
    in_the_judges_prompt = 4 * 2 * (64 + 3)
    assert four.prompt_tokens - two.prompt_tokens == pytest.approx(in_the_judges_prompt, abs=4 * 8)
