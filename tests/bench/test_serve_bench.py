"""`bench serve`: its figures, its sweeps, and the command as a person runs it, before real servers without a model."""

import importlib.util
import math
import signal
from dataclasses import replace
from pathlib import Path

import click
import pytest
from chat_server import ChatServer
from patience import patience, wait_until
from tiny_adapter import write_adapter, write_model

from localemp.bench.load.client import Answer
from localemp.bench.load.schedule import Load
from localemp.bench.load.serve import Plan, measure, point_of, shuffled_dialogues, values_of
from localemp.bench.load.target import LoadTarget, find_target
from localemp.bench.result import Recording, read_result
from localemp.cli.bench.options import number_list
from localemp.cli.bench.serve import key_for, parse_limits, serve
from localemp.data.sources import load_dialogues
from localemp.errors import EngineError, OptionError
from localemp.utils.machine import usable_cores

FAKE = Path(__file__).parent.parent / "serving" / "fake_vllm.py"
PLAN = Plan(
    rates=(),
    concurrency=(2,),
    requests=6,
    repeats=1,
    reply_tokens=8,
    fixed_length=False,
    limits={},
    time_limit=20,
    seed=0,
)


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


def load_of(*answers, seconds=2.0, cut=0):
    load = Load(None)
    load.answers, load.sent, load.seconds = list(answers), len(answers) + cut, seconds
    return load


def answered(first, last, tokens, chunks=3):
    """An answer whose text came between two moments, in seconds after it was sent."""
    texts = [first + (last - first) * part / (chunks - 1) for part in range(chunks)]
    return Answer(0.0, last + 0.1, 200, texts, texts, tokens)


def test_figures_are_what_they_say():
    failed = Answer(0.0, 0.1, 500, error="full")
    load = load_of(answered(0.1, 0.5, 5), answered(0.3, 0.9, 11), failed, cut=1)
    values = values_of(load, {"ttft": 200, "tpot": 100})
    assert values["requests_per_s"] == 1.0
    assert (values["errors"], values["failed"]) == (2, 0.5)
    assert values["reply_tokens_per_s"] == 8.0
    assert values["tokens_per_reply"] == 8.0
    assert values["ttft_p50_ms"] == pytest.approx(200)
    assert values["tpot_p50_ms"] == pytest.approx(80), "100 ms and 60 ms: by tokens, not by chunks"
    assert values["e2e_p50_ms"] == pytest.approx(800)
    assert values["itl_p50_ms"] == pytest.approx(250), "chunks 200 and 300 ms apart"
    assert values["goodput_per_s"] == 0.5
    assert values["in_time"] == 0.25, "of all that were sent"


def test_figures_that_nobody_can_know_are_left_out():
    uncounted = values_of(load_of(answered(0.1, 0.5, None), answered(0.1, 0.5, 5)), {"tpot": 100})
    assert {"reply_tokens_per_s", "tokens_per_reply", "goodput_per_s"}.isdisjoint(uncounted)
    two_stages = values_of(load_of(answered(0.1, 0.5, 50)), {"ttft": 200}, counts_unseen=True)
    assert "tpot_p50_ms" not in two_stages
    assert two_stages["goodput_per_s"] == 0.5
    assert values_of(load_of(cut=3), {}) == {"requests_per_s": 0.0, "errors": 3.0, "failed": 1.0}


def test_time_per_token_ends_with_the_last_text_and_one_text_has_none():
    late = Answer(0.0, 9.0, 200, [0.0, 0.1, 0.5, 8.0], [0.1, 0.5], 5)
    assert values_of(load_of(late), {})["tpot_p50_ms"] == pytest.approx(100), "the empty last chunk is not counted"
    assert "tpot_p50_ms" not in values_of(load_of(Answer(0.0, 9.0, 200, [0.1, 8.0], [0.1], 5)), {})


def test_a_point_says_what_its_figures_do_not():
    target, plan = LoadTarget("http://host", "tiny", "tiny", {}), replace(PLAN, repeats=3, fixed_length=True)
    silent = Answer(0.0, 0.5, 200, [0.5], [], 8)
    stopped = load_of(answered(0.1, 0.5, 8), cut=3)
    stopped.stopped = True
    note = point_of("by rate", {"rate": 1}, [load_of(answered(0.1, 0.5, 3), silent), stopped], target, plan).note
    assert "repeat 2 of 3 was stopped after 1 of 6 requests" in note
    assert "1 of 3 replies have tokens but no text" in note
    assert "--fixed-length was ignored: 1 of 3 replies do not have 8 tokens" in note
    failed = point_of("by rate", {"rate": 1}, [load_of(answered(0.1, 0.5, 8), cut=3)], target, plan).note
    assert "errors: 3 x time limit; times cover answered requests only" in failed
    assert "1 of 3 repeats: more than half of the requests failed" in failed


def test_a_strategy_of_two_stages_is_known_by_its_name():
    assert LoadTarget("http://host", "llama:similar+two-stage", "", {}).counts_unseen
    assert LoadTarget("http://host", "llama:self-refine", "", {}).counts_unseen
    assert not LoadTarget("http://host", "llama:similar", "", {}).counts_unseen
    assert not LoadTarget("http://host", "llama:8b", "", {}).counts_unseen
    assert not LoadTarget("http://host", "two-stage-model", "", {}).counts_unseen
    assert "secret" not in repr(LoadTarget("http://host", "llama", "", {}, "secret"))


async def target_of(server, key, plan):
    return await find_target(
        server.url, key, "tiny", reply_tokens=plan.reply_tokens, fixed_length=plan.fixed_length, patience=5
    )


async def run(server, plan, tmp_path, dialogues="samples"):
    target = await target_of(server, server.key, plan)
    with Recording(tmp_path / "result.json", "serve", "tiny", {}) as recording:
        await measure([target], shuffled_dialogues(load_dialogues(dialogues), plan.seed), plan, recording)
    return read_result(tmp_path / "result.json").points


async def test_both_sweeps_become_points_and_ask_whole_dialogues(server, tmp_path):
    plan = replace(PLAN, rates=(50.0, math.inf), repeats=2, limits={"e2e": 5000}, fixed_length=True)
    points = await run(server, plan, tmp_path)
    assert [(point.part, point.labels) for point in points] == [
        ("by rate", {"model": "tiny", "rate": 50}),
        ("by rate", {"model": "tiny", "rate": "inf"}),
        ("by concurrency", {"model": "tiny", "concurrency": 2}),
    ]
    for point in points:
        assert point.values["errors"] == (0.0, 0.0)
        assert point.values["in_time"] == (1.0, 1.0)
        assert point.values["tokens_per_reply"] == (7.0, 7.0)
        assert point.note.startswith("between chunks: a chunk with text holds 2.33 tokens")
        assert "--fixed-length was ignored: 12 of 12 replies do not have 8 tokens" in point.note
    asked = server.asked[0]
    assert [message["role"] for message in asked["messages"]][:2] in (["user"], ["user", "assistant"])
    assert any(len(body["messages"]) > 2 for body in server.asked)
    assert asked | {"messages": []} == {
        "messages": [], "model": "tiny", "max_tokens": 8, "temperature": 0.0, "stream": True,
        "stream_options": {"include_usage": True}, "ignore_eos": True,
    }  # fmt: skip


async def test_a_server_that_stalls_is_given_up_and_heavier_loads_are_skipped(server, tmp_path):
    server.stalls_after = 4 + 6 + 2  # the warm-up, the first load, and a part of the second
    good, bad, skipped = await run(server, replace(PLAN, concurrency=(1, 4, 8), time_limit=1), tmp_path)
    assert good.values["errors"] == (0.0,)
    assert bad.values["errors"] == (4.0,)
    assert bad.values["requests_per_s"][0] == pytest.approx(2, rel=0.2), "what was answered is kept"
    assert "errors: 4 x time limit" in bad.note
    assert (skipped.values, skipped.note) == ({}, "skipped: more than half failed before (concurrency 4)")


def test_a_client_that_may_be_what_is_slow_says_so():
    load = load_of(*[answered(0.1, 0.5, 3)] * 6)
    target = LoadTarget("http://host", "tiny", "tiny", {})
    load.own_share = 0.69
    assert point_of("by rate", {"rate": 1}, [load], target, PLAN).note == ""
    load.own_share = 0.84
    note = "the client computed for 84% of a core: it may be the bottleneck"
    assert point_of("by rate", {"rate": 1}, [load], target, PLAN).note == note


@pytest.mark.parametrize(
    ("told", "change", "said"),
    [
        ({"key": "sk-right"}, {}, "no such key: Bearer ***"),
        ({"model": "a, b"}, {}, "its models: a, b"),
        ({"refuses": "ignore_eos"}, {"fixed_length": True}, "leave out --fixed-length"),
        ({"refuses": "stream_options"}, {}, "unknown field stream_options"),
        ({"ending": "error"}, {}, "the engine died"),
        ({"stalls_after": 0}, {"time_limit": 0.3}, "4 x time limit"),
    ],
)
async def test_what_cannot_be_measured_is_found_before_any_load(server, tmp_path, told, change, said):
    for name, value in told.items():
        setattr(server, name, value)
    plan = replace(PLAN, **change)
    with pytest.raises(EngineError) as caught:
        target = await target_of(server, "sk-wrong", plan)
        with Recording(tmp_path / "result.json", "serve", "tiny", {}) as recording:
            await measure([target], shuffled_dialogues(load_dialogues("samples"), 0), plan, recording)
    told = f"{caught.value.message}; {caught.value.hint}"
    assert said in told
    assert "sk-wrong" not in told
    assert "--base-url" not in told


def numbers(kind, text):
    return number_list(kind)(click.Context(serve), serve.params[0], text)


@pytest.mark.parametrize("text", ["", "1,,2", "fast", "0", "-1", "nan", "1;2"])
def test_rates_that_are_none(text):
    with pytest.raises(click.BadParameter, match="is not a number above 0"):
        numbers(float, text)


def test_rates_concurrency_and_limits_are_read():
    assert numbers(float, "inf,0.5,4,4") == (0.5, 4.0, math.inf)
    assert numbers(int, None) is None
    assert parse_limits(["ttft=500", "e2e=2e3"]) == {"ttft": 500, "e2e": 2000}
    with pytest.raises(click.BadParameter, match="is not a whole number"):
        numbers(int, "1.5")
    for text in ("itl=5", "ttft", "ttft=fast", "ttft=0", "ttft=nan"):
        with pytest.raises(OptionError, match="NAME=MS"):
            parse_limits([text])


def test_openai_is_never_shown_the_key_of_a_server_of_ones_own(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("LOCALEMP_API_KEY", "sk-one,sk-two")
    assert key_for("https://api.openai.com/v1") == ("sk-openai", "OPENAI_API_KEY")
    assert key_for("http://127.0.0.1:8000") == ("sk-one", "LOCALEMP_API_KEY")
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-router")
    assert key_for("https://openrouter.ai/api/v1") == ("sk-or-router", "OPENROUTER_API_KEY")
    monkeypatch.delenv("LOCALEMP_API_KEY")
    assert key_for("http://127.0.0.1:8000") == ("sk-openai", "OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert key_for("http://127.0.0.1:8000") == ("", "LOCALEMP_API_KEY")


@pytest.mark.parametrize("key", ["sk-wrong", ""])
def test_a_refused_key_is_named_by_its_variable(localemp, server, key):
    server.key = "sk-right"
    env = {"LOCALEMP_API_KEY": key, "OPENAI_API_KEY": ""}
    done = localemp("bench", "serve", "--url", server.url, "--model", "tiny", "--out", "r", env=env)
    assert done.returncode == 1
    said = "rejects the key in LOCALEMP_API_KEY" if key else "requires a key, and LOCALEMP_API_KEY is not set"
    assert said in done.stderr
    assert "export LOCALEMP_API_KEY=..." in done.stderr
    assert "OPENAI" not in done.stderr + done.stdout


@pytest.mark.parametrize(("key", "login"), [("sk-hidden", ""), ("", "me:hidden@")])
def test_the_command_measures_a_server_and_keeps_no_secret(localemp, server, key, login):
    server.key, env = key, {"LOCALEMP_API_KEY": key, "OMP_NUM_THREADS": "3"}
    words = ["bench", "serve", "--model", "tiny", "--concurrency", "1,2", "--requests", 4, "--repeats", 1, "--out", "r"]
    done = localemp(*words, "--url", server.url.replace("//", f"//{login}"), env=env)
    assert done.returncode == 0, done.stderr
    assert "by concurrency" in done.stdout
    assert "result: r" in done.stdout
    assert "hidden" not in (localemp.folder / "r").read_text("utf-8") + done.stdout + done.stderr
    result = read_result(localemp.folder / "r")
    assert result.finished
    assert [point.labels["concurrency"] for point in result.points] == [1, 2]
    assert result.settings["url"] == server.url
    assert (result.settings["OMP_NUM_THREADS"], result.settings["usable_cores"]) == ("3", usable_cores())
    assert "Machine and versions are those of the client, not of the server." in result.notes


def test_no_server_is_one_line_and_leaves_no_result(localemp):
    done = localemp("bench", "serve", "--url", "http://127.0.0.1:9", "--model", "tiny", "--out", "r")
    assert done.returncode == 1
    assert "error: no server answers at http://127.0.0.1:9/v1" in done.stderr
    assert "check --url; is it started?" in done.stderr
    assert not (localemp.folder / "r").exists()


def test_ctrl_c_keeps_what_was_measured(localemp, server):
    server.stalls_after = 4 + 8 + 5  # the warm-up, the first load, and some of the second
    process = localemp.start(
        "bench", "serve", "--url", server.url, "--model", "tiny", "--concurrency", "2,3", "--requests", 8,
        "--repeats", 1, "--out", "r",
    )  # fmt: skip
    wait_until(lambda: len(server.asked) == 4 + 8 + 8, process=process)  # three at once: five are answered
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=patience(60))
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "not finished: Ctrl-C" in said
    first, second = read_result(localemp.folder / "r").points
    assert "stopped" not in first.note
    assert "repeat 1 of 1 was stopped after 5 of 8 requests" in second.note
    assert second.values["errors"] == (0.0,), "what a person stops has not failed"
    assert "by concurrency" in shown


@pytest.mark.usefixtures("tiny_folder")
def test_localemp_and_bare_vllm_are_started_and_measured_one_after_the_other(localemp, tmp_path):
    env = _install(localemp, tmp_path)
    done = localemp("bench", "serve", "--model", "tiny.toml", *BESIDE, "--out", "r", "--", "--enforce-eager", env=env)
    assert done.returncode == 0, done.stderr
    result = read_result(localemp.folder / "r")
    assert [point.labels["model"] for point in result.points] == ["tiny", "tiny:zero-shot", "tiny, bare vLLM"]
    assert all(point.values["errors"] == (0.0,) for point in result.points)
    assert result.settings["engine_options"] == ["--enforce-eager"]


def test_a_model_with_an_adapter_is_measured_and_the_result_names_it(localemp, tiny_folder, tmp_path):
    env = _install(localemp, tmp_path)
    write_model(tiny_folder)
    write_adapter(tmp_path / "mine")
    words = ["bench", "serve", "--model", "tiny.toml", "--adapter", "mine", *BESIDE, "--out", "r"]
    done = localemp(*words, env=env)
    assert done.returncode == 0, done.stderr
    result = read_result(localemp.folder / "r")
    names = ["tiny@mine", "tiny@mine:zero-shot", "tiny@mine, bare vLLM"]
    assert [point.labels["model"] for point in result.points] == names
    assert all(point.values["errors"] == (0.0,) for point in result.points)
    assert (result.settings["adapter"], result.settings["adapter_rank"]) == ("mine", 4)
    assert len(result.settings["adapter_sha256"]) == 64
    elsewhere = localemp("bench", "serve", "--url", "http://127.0.0.1:1", "--model", "tiny", "--adapter", "mine")
    assert (elsewhere.returncode, "--model tiny@NAME" in elsewhere.stderr) == (2, True)


BESIDE = ["--strategy", "zero-shot", "--beside-bare", "--rates", "inf", "--requests", 4, "--repeats", 1]


def _install(localemp, tmp_path):
    """Write the stand-in for vLLM and a profile of a tiny model; returns the environment."""
    spec = importlib.util.spec_from_file_location("fake_vllm", FAKE)
    fake_vllm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake_vllm)
    # A context that is known needs no transformers, which takes seconds to import.
    profile = 'kind = "chat"\nengine = "vllm"\npath = "tiny"\ncontext_length = 2048\n'
    (localemp.folder / "tiny.toml").write_text(profile)
    env = fake_vllm.install(tmp_path / "packages")
    return env | {"LOCALEMP_CACHE": str(tmp_path / "cache"), "FAKE_VLLM": "{}"}
