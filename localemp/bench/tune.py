"""Find the fastest engine settings for your own prompts: `localemp tune`.

Settings are tried one at a time, on top of the best so far. A trial starts a new engine that answers the same dialogues
with texts of one length, the mean length of the model's own texts, so that settings which change replies gain nothing
from shorter ones. A setting is accepted if its slowest repeat beats the fastest of the best so far. At the end the best
is measured again between two runs of the initial settings; these give the final gain.
"""

import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from localemp.bench.engine import check_fits
from localemp.bench.offline import Batch, OfflineEngine, Workload
from localemp.bench.result import Point, Recording, gather, read_result
from localemp.errors import LocalempError, OptionError
from localemp.utils.config_diff import compare_settings
from localemp.utils.machine import computing
from localemp.utils.redaction import shown_command

OBJECTIVE = "replies_per_s"
PART, CONFIRMED = "trials", "confirmed"
BASELINE = "to begin with"


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine argument and the values to try, best guess first.

    Attributes:
        name: vLLM's name.
        values: The values to try.
        changes_replies: Whether it changes the computation and not only its order.
    """

    name: str
    values: tuple[Any, ...]
    changes_replies: bool = False


def _ngram(tokens: int) -> dict[str, Any]:
    return {"method": "ngram", "num_speculative_tokens": tokens, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


# In this order: what is likely to help, and quick to try, first. vLLM refuses what a platform or model does not have.
SETTINGS = (
    Setting("max_num_seqs", (256, 64, 32, 512, 1024)),
    Setting("max_num_batched_tokens", (8192, 2048, 16384)),
    Setting("speculative_config", (_ngram(3), _ngram(5))),
    Setting("kv_cache_dtype", ("fp8",), changes_replies=True),
    Setting("quantization", ("fp8",), changes_replies=True),
    Setting("enable_chunked_prefill", (False,)),
)
CHANGING = frozenset(setting.name for setting in SETTINGS if setting.changes_replies)
# Settings of a recording that are found out, not asked for.
_FOUND = ("tokens", "torch_threads")


@dataclass(slots=True)
class Trial:
    """Measures one choice of engine arguments: a new engine answers all dialogues, several times.

    Args:
        workload: The dialogues with what was looked up for them.
        repeats: Batches, after a warm-up.
        tokens: Length of every text; None takes the mean length of the model's own texts, found at the first trial.
    """

    workload: Workload
    repeats: int
    tokens: int | None
    _baseline_replies: list[str] = field(default_factory=list)

    async def __call__(self, options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Measure with these arguments.

        Raises:
            LocalempError: The model does not fit with them, or the engine cannot start or answer.
        """
        offline = OfflineEngine([self.workload], options=options, tokens=self.tokens or 0)
        check_fits([self.workload], offline)
        async with offline as engine:
            if self.tokens is None:
                batch = await engine.answer(self.workload)
                stages = sum(len(record["stages"]) for record in batch.records)
                self.tokens = max(1, round(batch.tally.completion_tokens / stages))
            batch = await engine.answer(self.workload, tokens=self.tokens)  # warm-up
            values = []
            for _ in range(self.repeats):
                batch = await engine.answer(self.workload, tokens=self.tokens)
                values.append(batch.values | {"start_s": engine.start_seconds})
        texts = replies(batch)
        self._baseline_replies = self._baseline_replies or texts
        same = statistics.mean(one == other for one, other in zip(texts, self._baseline_replies, strict=True))
        return gather("trial", {}, values).values | {"same_replies": (same,)}


def replies(batch: Batch) -> list[str]:
    """Return the replies in the order of the dialogues' ids."""
    return [record["reply"] for record in sorted(batch.records, key=lambda record: str(record["id"]))]


@dataclass(slots=True)
class Tuning:
    """A search and its state.

    Args:
        measure: Measures a choice of engine arguments, see `Trial`.
        recording: Where trials are kept; those that are in it already are not repeated.
        settings: What to try.
        seconds: Time to spend; the confirmation at the end is within it.
        clock: Shows what is being tried while it is.
        say: Called with a line on the result.
    """

    measure: Callable[[Mapping[str, Any]], Awaitable[dict[str, tuple[float, ...]]]]
    recording: Recording
    settings: Sequence[Setting]
    seconds: float
    clock: Callable[[str], AbstractContextManager[object]]
    say: Callable[[str], None]
    _began: float = 0.0
    _longest: float = 0.0

    async def search(self) -> dict[str, Any]:
        """Return the best engine arguments, in addition to the config's; empty if nothing was faster.

        Raises:
            LocalempError: Even the initial settings do not work.
        """
        self._began = time.perf_counter()
        points = self.recording.result.points
        # An earlier session's start is not this one's, and what it confirmed has to be confirmed again.
        points[:] = [point for point in points if point.part == PART and point.labels["settings"] != BASELINE]
        best: dict[str, Any] = {}
        record = start = await self._try({}, None)
        for name, value in [(setting.name, value) for setting in self.settings for value in setting.values]:
            options = {**best, name: value}
            tried = self._known(options)
            if tried is None and not self._time_for(1 + 3):  # it, and the confirmation
                self.recording.result.notes.append("the time was over before everything was tried")
                break
            tried = tried or await self._try(options, start)
            if OBJECTIVE in tried.values and is_faster(tried, record):
                best, record = options, tried
        if best:
            await self._confirm(best)
        return best

    def _time_for(self, trials: int) -> bool:
        return time.perf_counter() - self._began + trials * self._longest <= self.seconds

    def _known(self, options: Mapping[str, Any]) -> Point | None:
        """The point of an earlier session."""
        name = argument_line(options)
        return next((point for point in self.recording.result.points if point.labels["settings"] == name), None)

    async def _try(self, options: dict[str, Any], start: Point | None) -> Point:
        """Measure these arguments; if vLLM refuses them, the point has its reason."""
        name, started = argument_line(options), time.perf_counter()
        try:
            point = await self._measured(PART, options)
        except LocalempError as error:
            if not options:
                raise
            point = Point(part=PART, labels={"settings": name}, note=f"not possible: {error.message}")
        else:
            point.values["gain"] = (gain(point, start or point),)
        self._longest = max(self._longest, time.perf_counter() - started)
        self.recording.add(point)
        rate = point.median(OBJECTIVE)
        self.say(f"{name}: {point.note if rate is None else f'{rate:.2f} replies/s'}")
        return point

    async def _measured(self, part: str, options: Mapping[str, Any]) -> Point:
        name = argument_line(options)
        with self.clock(f"{part}: {name}"):
            return Point(part=part, labels={"settings": name}, values=await self.measure(options))

    async def _confirm(self, best: dict[str, Any]) -> None:
        """Measure start, best, start: the winner of many trials was also lucky, and a machine's speed varies."""
        if not self._time_for(3):
            self.recording.result.notes.append("no time was left to confirm the best: its gain is of single trials")
            return
        before, after, again = [await self._measured(CONFIRMED, options) for options in ({}, best, {})]
        before.values = {name: values + again.values[name] for name, values in before.values.items()}
        before.values["gain"], after.values["gain"] = (0.0,), (gain(after, before),)
        self.recording.add(before)
        self.recording.add(after)


def resume_trials(recording: Recording) -> bool:
    """Resume the trials of an earlier session, with the length of its texts; return False if there was none.

    Raises:
        OptionError: The file is from other settings, another machine, or another benchmark.
        DataError: It is not a result.
    """
    path, now = recording.path, recording.result
    if not path.exists():
        return False
    before = read_result(path)
    if before.kind != now.kind:
        raise OptionError(f"--out {path} is a result of `localemp bench {before.kind}`", "name another")
    old, new = (
        {name: value for name, value in settings.items() if name not in _FOUND}
        for settings in (before.settings, now.settings | computing())
    )
    if different := compare_settings(old, new, "in the file"):
        raise OptionError(f"--out {path} has trials of other settings: {'; '.join(different)}", "name another")
    if different := compare_settings(before.machine | before.versions, now.machine | now.versions, "in the file"):
        what = "; ".join(different)
        raise OptionError(f"--out {path} has trials of another machine or other versions: {what}", "name another")
    now.points = before.points
    now.settings |= {name: value for name, value in before.settings.items() if name == "tokens"}
    return True


def is_faster(point: Point, than: Point) -> bool:
    """Return whether a point's slowest repeat beats the fastest of the other."""
    return min(point.values[OBJECTIVE]) > max(than.values[OBJECTIVE])


def gain(point: Point, base: Point) -> float:
    """Return how much faster a point is than another: 0.08 is 8 % more replies a second."""
    return statistics.median(point.values[OBJECTIVE]) / statistics.median(base.values[OBJECTIVE]) - 1


def argument_line(options: Mapping[str, Any]) -> str:
    """Return engine arguments in a line, as `--engine-arg` takes them."""
    return " ".join(f"{name}={_value(value)}" for name, value in options.items()) or BASELINE


def command_lines(
    engine_args: Mapping[str, Any], for_generate: Sequence[str], for_serve: Sequence[str]
) -> tuple[str, str]:
    """Return the commands with these engine arguments, `localemp generate` and `localemp serve`, without secrets.

    Args:
        engine_args: All engine arguments, including given ones.
        for_generate: The other given options that `generate` has.
        for_serve: The same for `serve`.
    """
    engine = [word for name, value in engine_args.items() for word in ("--engine-arg", f"{name}={_value(value)}")]
    server = [word for name, value in engine_args.items() for word in _as_option(name, value)]
    generate = shown_command(["generate", *for_generate, *engine])
    return generate, shown_command(["serve", *for_serve, "--", *server])


def _as_option(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", _value(value)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def check_budget(text: str) -> float:
    """Return the seconds of "90s", "10m" or "2h".

    Raises:
        OptionError: It is none of these, or a number without a unit.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1]]
    except (ValueError, LookupError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        said = f"{text} of what?" if text.replace(".", "", 1).isdecimal() else f"{text!r} is not a duration"
        raise OptionError(f"--budget: {said}", "for example 90s, 10m or 2h")
    return seconds
