"""Finds the engine settings that are fastest for a person's own prompts: `localemp tune`.

One setting at a time, on top of the best so far. A trial is an engine of its own that answers the same dialogues with
texts of one length, the mean of what the model says by itself, so that settings which change replies gain nothing by
making them shorter. A setting is taken where its slowest repeat beats the fastest of the best so far. At the end the
best is measured once more beside the settings that it began with: the gain that counts is of these two.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from localemp.bench.offline import Batch, OfflineEngine, Workload, gather
from localemp.bench.result import Point, Recording
from localemp.errors import LocalempError

OBJECTIVE = "replies_per_s"
PART, CONFIRMED = "trials", "confirmed"
BASELINE = "as localemp starts it"


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine argument and the values to try, best guess first.

    Attributes:
        name: As vLLM calls it.
        values: What to try.
        changes_replies: Whether it computes something else, and not only in another order.
    """

    name: str
    values: tuple[Any, ...]
    changes_replies: bool = False


def _ngram(tokens: int) -> dict[str, Any]:
    return {"method": "ngram", "num_speculative_tokens": tokens, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


# In this order: what is likely to help, and quick to try, first. vLLM refuses what a platform or model does not have.
SETTINGS = (
    Setting("max_num_seqs", (256, 64, 512, 1024)),
    Setting("max_num_batched_tokens", (8192, 2048, 16384)),
    Setting("speculative_config", (_ngram(3), _ngram(5))),
    Setting("kv_cache_dtype", ("fp8",), changes_replies=True),
    Setting("quantization", ("fp8",), changes_replies=True),
    Setting("enable_chunked_prefill", (False,)),
)


@dataclass(slots=True)
class Tuning:
    """A search, and where it stands.

    Args:
        workload: The dialogues with what was looked up for them.
        recording: Where trials are kept; those that are in it already are not repeated.
        settings: What to try.
        repeats: Batches of a trial, after a warm-up.
        tokens: Length of every text; None takes the mean of what the model says by itself.
        seconds: Time to spend; the confirmation at the end is within it.
        clock: Shows what is being tried while it is.
        say: Hears what came of it.
    """

    workload: Workload
    recording: Recording
    settings: Sequence[Setting]
    repeats: int
    tokens: int | None
    seconds: float
    clock: Callable[[str], AbstractContextManager[object]]
    say: Callable[[str], None]
    began: float = 0.0
    longest: float = 0.0
    usual: list[str] = field(default_factory=list)

    async def search(self) -> dict[str, Any]:
        """The best engine arguments found, besides those of the recipe; empty where nothing was faster.

        Raises:
            LocalempError: Not even the settings that it begins with work.
        """
        self.began = time.perf_counter()
        points = self.recording.result.points
        points[:] = [point for point in points if point.labels["settings"] != BASELINE]
        best: dict[str, Any] = {}
        record = await self._trial({})
        for name, value in [(setting.name, value) for setting in self.settings for value in setting.values]:
            if not self._time_for(1 + 2):  # it, and both of the confirmation
                self.recording.result.notes.append("the time was over before everything was tried")
                break
            options = {**best, name: value}
            tried = await self._trial(options)
            if OBJECTIVE in tried.figures and min(tried.figures[OBJECTIVE]) > max(record.figures[OBJECTIVE]):
                best, record = options, tried
        if best:
            await self._confirm(best)
        return best

    def _time_for(self, trials: int) -> bool:
        return time.perf_counter() - self.began + trials * self.longest <= self.seconds

    async def _trial(self, options: dict[str, Any]) -> Point:
        """Measure these arguments, or take what an earlier session measured; what vLLM refuses is a point too."""
        name = described(options)
        for point in self.recording.result.parts.get(PART, ()):
            if point.labels["settings"] == name:
                return point
        started = time.perf_counter()
        try:
            point = await self._measure(PART, options, name)
        except LocalempError as error:
            if not options:
                raise
            point = Point(part=PART, labels={"settings": name}, note=f"not possible: {error.message}")
        self.longest = max(self.longest, time.perf_counter() - started)
        self.recording.add(point)
        rate = point.median(OBJECTIVE)
        self.say(f"{name}: {point.note if rate is None else f'{rate:.2f} replies/s'}")
        return point

    async def _measure(self, part: str, options: Mapping[str, Any], name: str) -> Point:
        with self.clock(f"{part}: {name}"):
            async with OfflineEngine([self.workload], options=options) as engine:
                tokens, figures = await self._length(engine), []
                batch = await engine.answer(self.workload, tokens=tokens)  # warm-up
                for _ in range(self.repeats):
                    batch = await engine.answer(self.workload, tokens=tokens)
                    figures.append(batch.figures | {"start_s": engine.start_seconds})
        said = replies(batch)
        self.usual = self.usual or said
        point = gather(part, {"settings": name}, figures)
        same = statistics.mean(one == other for one, other in zip(said, self.usual, strict=True))
        usual = [each for each in self.recording.result.points if each.labels["settings"] == BASELINE]
        point.figures["same_replies"] = (same,)
        point.figures["gain"] = (gain(point, usual[-1] if usual else point),)
        return point

    async def _length(self, engine: OfflineEngine) -> int:
        """Tokens of every text, found once by letting the model end its replies itself; also a warm-up."""
        settings = self.recording.result.settings
        if "tokens" not in settings:
            if self.tokens is None:
                batch = await engine.answer(self.workload)
                stages = sum(len(record["stages"]) for record in batch.records)
                settings["tokens"] = max(1, round(batch.tally.completion_tokens / stages))
            else:
                settings["tokens"] = self.tokens
        return int(settings["tokens"])

    async def _confirm(self, best: dict[str, Any]) -> None:
        """Both once more, one after the other: the winner of many trials was also lucky."""
        if not self._time_for(2):
            self.recording.result.notes.append("no time was left to confirm the best: its gain is of single trials")
            return
        for options in ({}, best):
            point = await self._measure(CONFIRMED, options, described(options))
            if not options:
                point.figures["gain"] = (0.0,)
            self.recording.add(point)


def gain(point: Point, base: Point) -> float:
    """By how much a point is faster than another: 0.08 is 8 % more replies a second."""
    return statistics.median(point.figures[OBJECTIVE]) / statistics.median(base.figures[OBJECTIVE]) - 1


def replies(batch: Batch) -> list[str]:
    """The replies in the order of the dialogues' ids."""
    return [record["reply"] for record in sorted(batch.records, key=lambda record: str(record["id"]))]


def described(options: Mapping[str, Any]) -> str:
    """Engine arguments in a line, as `--engine-arg` takes them."""
    return " ".join(f"{name}={_value(value)}" for name, value in options.items()) or BASELINE


def command_lines(best: Mapping[str, Any], model: str, strategy: str) -> tuple[str, str]:
    """What a person types to have these settings: `localemp generate`, and `localemp serve`."""
    import shlex

    engine = [word for name, value in best.items() for word in ("--engine-arg", f"{name}={_value(value)}")]
    server = [word for name, value in best.items() for word in _as_option(name, value)]
    generate = shlex.join(["localemp", "generate", "--model", model, "--strategy", strategy, *engine])
    return generate, shlex.join(["localemp", "serve", "--model", model, "--", *server])


def _as_option(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", _value(value)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def check_budget(text: str) -> float:
    """Seconds of "90", "90s", "10m" or "2h".

    Raises:
        ValueError: It is none of these.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    seconds = float(number) * unit
    if not 0 < seconds < float("inf"):
        raise ValueError("a time is more than 0")
    return seconds
