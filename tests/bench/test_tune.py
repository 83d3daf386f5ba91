"""The search for engine settings, on machines whose speed with every setting is known."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pytest

from localemp.bench.result import Point, Recording, read_result
from localemp.bench.tune import CONFIRMED, PART, Setting, Tuning, check_budget, command_lines, is_faster, resume_trials
from localemp.cli.main import cli
from localemp.cli.tune import _given
from localemp.errors import FatalEngineError, OptionError
from localemp.sampling import Sampling

SETTINGS = (
    Setting("max_num_seqs", (256, 64)),
    Setting("kv_cache_dtype", ("fp8",)),
    Setting("speculative_config", ({"k": 3},)),
)


class Machine:
    """Answers with the speed of its settings: 10 replies a second, times a factor for each."""

    def __init__(self, factors: Mapping[str, float], refuses: str = "") -> None:
        self.factors, self.refuses, self.asked = factors, refuses, list[dict[str, Any]]()

    async def __call__(self, options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        self.asked.append(dict(options))
        if self.refuses in options:
            raise FatalEngineError(f"{self.refuses} is not for this machine")
        speed = 10.0
        for name, value in options.items():
            speed *= self.factors.get(f"{name}={value}", 1.0)
        return {"replies_per_s": (speed, 1.02 * speed), "same_replies": (1.0,)}


def tuning(machine: Machine, path: Path, seconds: float = 1e6) -> Tuning:
    recording = Recording(path, "tune", "test", {"seed": 0}, command=["tune"])
    if path.exists():
        recording.result.points = read_result(path).points
    return Tuning(machine, recording, SETTINGS, seconds, lambda _: nullcontext(), lambda _: None)


async def test_what_is_faster_is_kept_and_what_is_not_is_left(tmp_path):
    machine = Machine({"max_num_seqs=64": 1.5, "kv_cache_dtype=fp8": 0.9, "speculative_config={'k': 3}": 1.01})
    search = tuning(machine, tmp_path / "t.json")
    assert await search.search() == {"max_num_seqs": 64}
    trials, confirmed = (search.recording.result.parts[part] for part in (PART, CONFIRMED))
    assert [point.median("gain") for point in trials] == pytest.approx([0, 0, 0.5, 0.35, 0.515])
    assert confirmed[1].median("gain") == pytest.approx(0.5)
    assert len(confirmed[0].values["replies_per_s"]) == 4
    assert is_faster(confirmed[1], confirmed[0])
    # The last three are the confirmation: start, best, start.
    assert machine.asked[-3:] == [{}, {"max_num_seqs": 64}, {}]


async def test_what_is_refused_is_kept_with_its_reason_and_a_start_that_fails_ends_all(tmp_path):
    search = tuning(Machine({}, refuses="kv_cache_dtype"), tmp_path / "t.json")
    assert await search.search() == {}
    notes = {point.labels["settings"]: point.note for point in search.recording.result.points if point.note}
    assert notes == {"kv_cache_dtype=fp8": "not possible: kv_cache_dtype is not for this machine"}
    assert CONFIRMED not in search.recording.result.parts

    async def broken(options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        raise FatalEngineError("no memory")

    search.measure = broken
    with pytest.raises(FatalEngineError, match="no memory"):
        await search.search()


async def test_a_search_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "t.json"
    first = tuning(Machine({"max_num_seqs=256": 2.0}), path)
    with first.recording:
        await first.search()
    again = Machine({"max_num_seqs=256": 2.0})
    second = tuning(again, path)
    assert await second.search() == {"max_num_seqs": 256}
    # Only the start and the confirmation are measured again.
    assert again.asked == [{}, {}, {"max_num_seqs": 256}, {}]
    assert len(second.recording.result.parts[CONFIRMED]) == 2


async def test_the_time_is_kept(tmp_path):
    machine = Machine({})
    search = tuning(machine, tmp_path / "t.json", seconds=0)
    assert await search.search() == {}
    assert machine.asked == [{}]
    assert search.recording.result.notes == ["the time was over before everything was tried"]


def test_the_same_settings_go_on_and_others_are_refused_with_what_differs(tmp_path):
    made = {"seed": 0, "sampling": Sampling().describe(), "engine_args": {"max_num_seqs": 4}}

    def recording(**changes: Any) -> Recording:
        return Recording(tmp_path / "t.json", "tune", "test", made | changes, command=["tune"])

    first, second = recording(), recording()
    assert not resume_trials(first)
    with first:
        first.result.settings["tokens"] = 17
        first.add(Point(part=PART, labels={"settings": "max_num_seqs=64"}))
    assert resume_trials(second)
    assert (second.result.points, second.result.settings["tokens"]) == (first.result.points, 17)
    with pytest.raises(OptionError, match=r"engine_args\.max_num_seqs: 4 in the file, 8 now"):
        resume_trials(recording(engine_args={"max_num_seqs": 8}))
    with pytest.raises(OptionError, match=r"sampling\.seed: not set in the file, 1 now"):
        resume_trials(recording(sampling=Sampling(seed=1).describe()))
    with Recording(tmp_path / "t.json", "score", "test", {}, command=["score"]):
        pass
    with pytest.raises(OptionError, match="is a result of `localemp bench score`"):
        resume_trials(recording())


def test_the_best_is_a_command_line():
    best = {"max_num_seqs": 64, "enable_chunked_prefill": False, "speculative_config": {"method": "ngram"}}
    given = ["--model", "llama", "--strategy", "similar"]
    generate, serve = command_lines(best, given, ["--model", "llama"])
    assert generate == (
        "localemp generate --model llama --strategy similar --engine-arg max_num_seqs=64 "
        '--engine-arg enable_chunked_prefill=false --engine-arg \'speculative_config={"method":"ngram"}\''
    )
    assert serve == (
        "localemp serve --model llama -- --max-num-seqs 64 --no-enable-chunked-prefill "
        '--speculative-config \'{"method":"ngram"}\''
    )


def test_the_command_line_has_what_was_given():
    command = cli.get_command(click.Context(cli), "tune")
    assert command is not None
    words = [
        "-m",
        "llama",
        "--strategy",
        "similar",
        "--shots",
        "3",
        "--no-labels",
        "--dialogues",
        "32",
        "--split",
        "valid",
    ]
    several = ["--given", "emotion", "--given", "situation", "--shot-indices", "3,14"]
    with command.make_context("tune", [*several, "-m", "llama"]):
        assert sorted(_given("generate")) == sorted([*several, "--model", "llama"])
    with command.make_context("tune", [*words, "--engine-arg", "dtype=half"]):
        asked = ["--model", "llama", "--strategy", "similar", "--shots", "3", "--no-labels", "--split", "valid"]
        assert _given("generate") == asked
        assert _given("serve") == ["--model", "llama", "--strategies", "similar", "--shots", "3", "--no-labels"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_times_are_read(text, seconds):
    assert check_budget(text) == seconds


@pytest.mark.parametrize("text", ["soon", "", "m", "10", "-5m", "0s", "nanm", "infh"])
def test_times_that_are_none(text):
    with pytest.raises(OptionError, match="10 of what" if text == "10" else "is not a duration"):
        check_budget(text)


def test_bad_input_is_one_line(localemp):
    (localemp.folder / "file").touch()
    for words, said in (
        (("--budget", "10"), "--budget: 10 of what?"),
        (("--only", ""), "unknown setting ''"),
        (("--only", "quantization", "--keep-replies"), "leaves nothing"),
        (("--only", "max_num_seqs", "--dialogues", 16), "max_num_seqs: nothing below 16 dialogues to try"),
        (("--strategy", "few-shot:x"), "unknown strategy 'few-shot:x'"),
        (("--out", "file/r.json"), "it is not a folder"),
        (("--model", "gpt-4o-mini"), "answers on a server"),
        (("--load-format", "dummy"), "give --reply-tokens"),
    ):
        done = localemp("tune", *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
