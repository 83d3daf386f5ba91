"""Bootstrap intervals over dialogues: how a result would vary had other dialogues of the same kind been drawn.

What was said of one dialogue is always drawn together: the replies of all systems, the items of all comparisons, the
answers of all raters. So neither raters who agree nor several items of one dialogue make an interval too narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.pairing import FEW_ITEMS, ONE_DIALOGUE
from localemp.metrics.significance import CONFIDENCE, Interval

RESAMPLES, SEED = 2000, 0
NO_VALUE = "too many samples of so few dialogues leave it without a value"
FEW_DIALOGUES = f"fewer than {FEW_ITEMS} dialogues: the intervals are rough, and rather too narrow"
_WITHOUT = 0.01  # share of samples that may have no value
_AT_ONCE = 500_000  # weights in memory

Numbers = NDArray[np.float64]
# Weights, one row a sample, one column a unit (how often it was drawn) -> the figure of each sample, NaN without one.
Statistic = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval.

    Attributes:
        value: None where there is none.
        interval: Where it lies with a confidence of 95 %.
        reason: Why value or interval is None.
    """

    value: float | None
    interval: Interval | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {"reason": self.reason} if self.reason else {}
        return {"value": self.value, "interval": self.interval, **told}

    def mapped(self, function: Callable[[Numbers], Numbers]) -> "Estimate":
        """Express it in another unit, by an increasing function."""
        if self.value is None:
            return self
        value, *ends = (float(function(np.array(number))) for number in (self.value, *(self.interval or ())))
        return Estimate(value, (ends[0], ends[1]) if ends else None, self.reason)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Percentile intervals from dialogues resampled with replacement.

    Attributes:
        resamples: How many samples.
        seed: Every figure gets the same draws from it, so that none depends on which others are computed.
    """

    resamples: int = RESAMPLES
    seed: int = SEED

    def estimate(self, value: float, statistic: Statistic, dialogues: Sequence[str]) -> Estimate:
        """Return a value with its interval.

        Args:
            value: The figure of all units.
            statistic: The same figure of samples.
            dialogues: Of every unit.
        """
        (found,) = self.estimates([value], lambda weights: statistic(weights)[:, np.newaxis], dialogues)
        return found

    def estimates(self, values: Sequence[float], statistic: Statistic, dialogues: Sequence[str]) -> list[Estimate]:
        """Return several values, each with its interval, from the same samples.

        Args:
            values: The figures of all units.
            statistic: The same figures of samples, one row a sample, one column a figure.
            dialogues: Of every unit.
        """
        names, of = np.unique(np.asarray(dialogues, dtype=str), return_inverse=True)
        if len(names) < 2:
            return [Estimate(value, reason=ONE_DIALOGUE) for value in values]
        drawn = _draws(len(names), self.resamples, self.seed)
        step = max(1, _AT_ONCE // len(of))
        starts = range(0, self.resamples, step)
        found = np.concatenate([statistic(drawn[start : start + step, of].astype(float)) for start in starts])
        return [self._estimate(value, column) for value, column in zip(values, found.T, strict=True)]

    def of_sums(self, units: Numbers, figures: Statistic, dialogues: Sequence[str]) -> list[Estimate]:
        """Return figures of sums over units, each with its interval; a figure that is NaN has no value.

        This is faster than `estimates`: the units of a dialogue are summed once for all samples.

        Args:
            units: One row a unit, one column a sum.
            figures: Sums, one row a sample -> the figures of each, one column a figure.
            dialogues: Of every unit.
        """
        names, sums = by_dialogue(units, dialogues)
        (point,) = figures(sums.sum(axis=0)[np.newaxis])
        each = self.estimates(point.tolist(), lambda weights: figures(weights @ sums), names)
        return [one if np.isfinite(value) else Estimate(None) for value, one in zip(point, each, strict=True)]

    def ratio(self, above: Numbers, below: Numbers, dialogues: Sequence[str]) -> Estimate:
        """Return the ratio of two sums over units with its interval; without a value if the denominator is 0."""
        (found,) = self.of_sums(
            np.column_stack([above, below]), lambda sums: ratio(sums[:, 0], sums[:, 1])[:, np.newaxis], dialogues
        )
        return found

    def mean(self, values: Numbers, dialogues: Sequence[str]) -> Estimate:
        """Return the mean over units with its interval."""
        return self.ratio(values, np.ones_like(values), dialogues)

    def _estimate(self, value: float, found: Numbers) -> Estimate:
        found = found[np.isfinite(found)]
        if len(found) < (1 - _WITHOUT) * self.resamples:
            return Estimate(value, reason=NO_VALUE)
        low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Estimate(value, (float(low), float(high)))


def by_dialogue(units: Numbers, dialogues: Sequence[str]) -> tuple[list[str], Numbers]:
    """Return the dialogues, and the sum of their units: one row a dialogue."""
    names, of = np.unique(np.asarray(dialogues, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), units.shape[1]))
    np.add.at(sums, of, units)
    return names.tolist(), sums


def ratio(above: Numbers, below: Numbers) -> Numbers:
    """Return above / below; NaN where that is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below != 0, above / below, np.nan), dtype=float)


@lru_cache(maxsize=2)
def _draws(dialogues: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each dialogue is drawn: one row a sample, one column a dialogue."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=resamples)
