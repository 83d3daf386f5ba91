"""A trial of `localemp tune`: one choice of engine arguments, measured on an engine of its own."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localemp.bench.engine import check_fits
from localemp.bench.offline import Batch, OfflineEngine, Workload
from localemp.bench.result import gather


@dataclass(slots=True)
class Trial:
    """Measures one choice of engine arguments: an engine of its own answers all dialogues, again and again.

    Args:
        workload: The dialogues with what was looked up for them.
        repeats: Batches, after a warm-up.
        tokens: Length of every text; None takes the mean of what the model says by itself, found at the first trial.
    """

    workload: Workload
    repeats: int
    tokens: int | None
    _usual: list[str] = field(default_factory=list)

    async def __call__(self, options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """The figures with these arguments.

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
            figures = []
            for _ in range(self.repeats):
                batch = await engine.answer(self.workload, tokens=self.tokens)
                figures.append(batch.figures | {"start_s": engine.start_seconds})
        said = replies(batch)
        self._usual = self._usual or said
        same = statistics.mean(one == other for one, other in zip(said, self._usual, strict=True))
        return gather("trial", {}, figures).figures | {"same_replies": (same,)}


def replies(batch: Batch) -> list[str]:
    """The replies in the order of the dialogues' ids."""
    return [record["reply"] for record in sorted(batch.records, key=lambda record: str(record["id"]))]
