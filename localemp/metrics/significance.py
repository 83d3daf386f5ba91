"""Compare two systems: the difference in each metric, its significance, and the dialogues on which they differ most.

Everything is paired: the same dialogues, item by item, and only those that both systems answered. Two questions are
kept apart. The p-value comes from approximate randomisation (Noreen 1989; Riezler and Maxwell 2005): how often is the
difference as large if chance decides which of the two gave which reply? The interval is for the difference on other
dialogues of the same kind and number: by paired bootstrap (Koehn 2004) for metrics that do not depend on repeated
items, by jackknife for those that do, such as Distinct-n. docs/comparing.md has the reasons.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.errors import LocalempError, OptionError
from localemp.metrics.base import PAPER, Metric, Rows, Signature, Statistics
from localemp.metrics.pairing import ONE_DIALOGUE, Pair, pair
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.ttest import TTest, paired_t
from localemp.utils.progress import OnProgress, Progress, silent

SAMPLES, SEED, CONFIDENCE = 1000, 0, 0.95
FEWEST_SAMPLES = 100
BOOTSTRAP, JACKKNIFE = "bootstrap", "jackknife"

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two systems on their common items.

    Attributes:
        name: The metric's name in tables.
        a: The first system's value, in the metric's unit; None if it has none.
        b: The second system's value.
        signature: How both values were computed.
        difference: b - a.
        interval: The 95 % confidence interval of the difference.
        interval_by: BOOTSTRAP or JACKKNIFE.
        p: The two-sided p-value of approximate randomisation.
        p_holm: The same, corrected (Holm 1979) for all metrics of its table that are compared together, hidden ones
            separately.
        reason: Why one of the above is None.
        group: The table that the metric belongs to.
        hidden: Whether the metric is only shown when asked for.
        higher_is_better: None if neither direction is better.
        each: The items' own values, one row for each system, for metrics of single replies.
        t_test: A paired t-test of these; None if single replies have no value.
    """

    name: str
    a: float | None
    b: float | None
    signature: Signature
    difference: float | None = None
    interval: Interval | None = None
    interval_by: str | None = None
    p: float | None = None
    p_holm: float | None = None
    reason: str = ""
    group: str = PAPER
    hidden: bool = False
    higher_is_better: bool | None = True
    each: NDArray[np.float64] | None = None
    t_test: TTest | None = None

    @property
    def family(self) -> tuple[str, bool]:
        """What its p-value is corrected together with: the metrics of the same table, shown or hidden."""
        return self.group, self.hidden

    @property
    def is_mean(self) -> bool:
        """Whether both values are means of the items' own values."""
        if self.each is None or self.a is None or self.b is None:
            return False
        return bool(np.isclose(self.each.mean(axis=1), [self.a, self.b]).all())

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        names = ("name", "higher_is_better", "a", "b", "difference", "interval", "interval_by", "p", "p_holm")
        told = {"reason": self.reason} if self.reason else {}
        tested = {"t_test": self.t_test and self.t_test.as_dict()}
        return {
            **{name: getattr(self, name) for name in names},
            **tested,
            **told,
            "signature": self.signature.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Contrast:
    """A dialogue with two replies that differ in some measure of single replies.

    Attributes:
        a: The reply of the first system.
        b: The reply of the second.
        value_a: The measure of the first.
        value_b: The measure of the second.
    """

    a: Reply
    b: Reply
    value_a: float
    value_b: float

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        turns, reference = self.a.turns or self.b.turns, self.a.reference or self.b.reference
        replies = {"a": self.a.text, "b": self.b.text, "value_a": self.value_a, "value_b": self.value_b}
        return {"id": self.a.id, "turns": list(turns), "reference": reference, **replies}


def compare(
    a: Replies,
    b: Replies,
    metrics: Iterable[Metric],
    samples: int = SAMPLES,
    seed: int = SEED,
    on_progress: OnProgress = silent,
    confidence: float = CONFIDENCE,
) -> list[Comparison]:
    """Compare two systems by each metric, on the items that both answered.

    Args:
        a: The first system; differences are b - a.
        b: The second.
        metrics: The metrics.
        samples: The number of random swaps, and of resamples, for each metric.
        seed: The seed of both; every metric gets the same draws, so that its values do not depend on the others.
        on_progress: Called with the number of metrics computed so far.
        confidence: Of the intervals.

    Raises:
        OptionError: No item in common, or too few samples.
    """
    if samples < FEWEST_SAMPLES:
        raise OptionError(f"{samples} samples are too few for an interval", f"take at least {FEWEST_SAMPLES}")
    both = pair(a, b)
    found = []
    metrics = list(metrics)
    for number, metric in enumerate(metrics):
        on_progress(Progress("Comparing", number, len(metrics), "metrics"))
        found.append(_compared(metric, both.a, both.b, samples, seed, confidence))
    on_progress(Progress("Comparing", len(metrics), len(metrics), "metrics"))
    return _corrected(found)


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons with their p-values corrected by Holm's method within each table.

    The second columns are a family of their own, too: asking for more metrics changes nothing in the paper's.
    """
    corrected = {
        family: holm([one.p if one.family == family else None for one in found])
        for family in dict.fromkeys(one.family for one in found)
    }
    return [replace(one, p_holm=corrected[one.family][place]) for place, one in enumerate(found)]


def randomisation_p(statistics: Statistics, items: int, samples: int, seed: int) -> float:
    """Return the two-sided p of approximate randomisation: (as large by chance + 1) / (samples + 1).

    In each sample a fair coin decides for every item whether the two systems' replies are swapped. An equal difference
    counts as "as large": for identical replies p is 1. sacrebleu counts only larger ones and has 1 / (samples + 1).
    NaN if a swap leaves a metric without a value.
    """
    rows = np.arange(items)
    swaps = np.random.default_rng(seed).integers(2, size=(samples, items), dtype=bool)
    observed = _difference(statistics, rows, rows + items)
    drawn = np.empty(samples)
    for number, swap in enumerate(swaps):
        first = rows + items * swap
        drawn[number] = _difference(statistics, first, 2 * rows + items - first)
    if not np.isfinite(drawn).all():
        return float("nan")
    # What is equal but for rounding is equal.
    hits = np.count_nonzero(np.abs(drawn) >= abs(observed) - 1e-9 * max(1.0, abs(observed)))
    return (hits + 1) / (samples + 1)


def bootstrap_interval(
    statistics: Statistics, items: int, samples: int, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return percentiles of the difference over items drawn with replacement, the same for both systems.

    Not for metrics that depend on repetition. NaN if a sample leaves a metric without a value.
    """
    return _bootstrap(lambda rows: _difference(statistics, rows, rows + items), items, samples, seed, confidence)


def jackknife_interval(
    statistics: Statistics, items: int, samples: int, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return the difference plus and minus 1.96 standard errors, estimated by leaving out one or few items at a time.

    1.96 is for 95 %.

    No item is used twice. With more items than samples, items are left out in `samples` random groups of nearly equal
    size (Busing, Meijer and van der Leeden 1999, for groups of unequal size). NaN if a metric has no value without a
    group.
    """
    return _jackknife(lambda rows: _difference(statistics, rows, rows + items), items, samples, seed, confidence)


def value_interval(statistics: Statistics, items: int, samples: int = SAMPLES, seed: int = SEED) -> Interval | None:
    """Return the 95 % interval of one system's value over other dialogues of the same kind and number.

    By bootstrap, or by jackknife for metrics that depend on repetition, as for differences. None for one item, or if
    a sample has no value.
    """
    if items < 2:
        return None
    by = _jackknife if depends_on_repetition(statistics, items, systems=1) else _bootstrap
    found = by(statistics.value, items, samples, seed, CONFIDENCE)
    return found if np.isfinite(found).all() else None


def depends_on_repetition(statistics: Statistics, items: int, systems: int = 2) -> bool:
    """Return whether counting every item twice changes a system's value, as it halves Distinct-n.

    Such a metric depends on the number of replies, not only on their distribution. In a bootstrap sample a third of the
    items is missing and others are repeated, so its interval would be biased and too narrow.
    """
    for system in range(systems):
        rows = np.arange(items) + system * items
        if not np.isclose(statistics.value(np.tile(rows, 2)), statistics.value(rows), rtol=1e-9, atol=1e-12):
            return True
    return False


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Correct p-values by Holm's step-down method; None stays None and does not count."""
    corrected: list[float | None] = [None] * len(ps)
    ranked = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    largest = 0.0
    for rank, (p, place) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        corrected[place] = largest
    return corrected


def contrasts(both: Pair, each: NDArray[np.float64], count: int) -> list[Contrast]:
    """Return the dialogues with the largest differences in a measure of single replies, largest first.

    Args:
        both: The two systems.
        each: One row for each system, one column for each item, as in `Comparison.each` and `chrf_of_each`.
        count: The most to return; dialogues without a difference are left out.
    """
    gaps = np.nan_to_num(np.abs(each[1] - each[0]))
    order = [int(place) for place in np.argsort(-gaps, kind="stable")[:count] if gaps[place] > 0]
    return [Contrast(both.a.items[i], both.b.items[i], float(each[0, i]), float(each[1, i])) for i in order]


def chrf_of_each(both: Pair) -> NDArray[np.float64] | None:
    """Return the sentence-level chrF (sacrebleu's defaults, 0 to 100) of every reply.

    A reply without a reference has NaN; None if no reply has one. It ranks dialogues and does not judge systems.
    """
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    values = np.full((2, len(both.a)), np.nan)
    for column, (first, second) in enumerate(zip(both.a.items, both.b.items, strict=True)):
        if reference := first.reference or second.reference:
            values[:, column] = [chrf.sentence_score(one.text, [reference]).score for one in (first, second)]
    return None if np.isnan(values).all() else values


def _compared(metric: Metric, a: Replies, b: Replies, samples: int, seed: int, confidence: float) -> Comparison:
    try:
        ours, theirs = metric.settings_of(a), metric.settings_of(b)
    except LocalempError:  # without its model a metric knows no settings; why there is no value is told below
        ours, theirs = {}, {}
    both = {name: value for name, value in ours.items() if name in theirs and theirs[name] == value}
    signature = Signature.of(metric.name.lower(), a, both)
    found = Comparison(
        metric.name,
        None,
        None,
        signature,
        group=metric.group,
        hidden=metric.hidden,
        higher_is_better=metric.higher_is_better,
    )
    missing = [metric.missing(system) for system in (a, b)]
    if any(missing):
        told = [f"{system.name}: {reason}" for system, reason in zip((a, b), missing, strict=True) if reason]
        return replace(found, reason=missing[0] if missing[0] == missing[1] else "; ".join(told))
    items = len(a)
    try:
        statistics = metric.statistics([a, b])
    except LocalempError as error:  # such as a missing model; the other metrics are compared anyway
        return replace(found, reason=f"{error.message} ({error.hint})" if error.hint else error.message)
    rows = np.arange(items)
    values = [float(statistics.value(rows + start)) for start in (0, items)]
    first, second = (value if np.isfinite(value) else None for value in values)
    each = statistics.each(np.arange(2 * items))
    if each is not None:
        each = each.reshape(2, items)
        found = replace(found, each=each, t_test=paired_t(each[1] - each[0]))
    found = replace(found, a=first, b=second)
    if first is None or second is None:
        without = " and ".join(s.name for s, value in ((a, first), (b, second)) if value is None)
        return replace(found, reason=f"{without}: the replies have too few words")
    found = replace(found, difference=second - first)
    if items < 2:
        return replace(found, reason=ONE_DIALOGUE)
    by = JACKKNIFE if depends_on_repetition(statistics, items) else BOOTSTRAP
    interval_of = jackknife_interval if by == JACKKNIFE else bootstrap_interval
    interval = interval_of(statistics, items, samples, seed, confidence)
    p = randomisation_p(statistics, items, samples, seed)
    if not np.isfinite([*interval, p]).all():
        reason = "some samples of these few replies have too few words"
        return replace(found, reason=reason, p=p if np.isfinite(p) else None)
    return replace(found, interval=interval, interval_by=by, p=p)


def _bootstrap(value: Callable[[Rows], float], items: int, samples: int, seed: int, confidence: float) -> Interval:
    generator = np.random.default_rng(seed)
    drawn = np.empty(samples)
    for number in range(samples):
        drawn[number] = value(generator.integers(items, size=items))
    outside = (1 - confidence) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def _jackknife(value: Callable[[Rows], float], items: int, samples: int, seed: int, confidence: float) -> Interval:
    rows = np.arange(items)
    groups = np.array_split(np.random.default_rng(seed).permutation(items), min(items, samples))
    sizes = np.array([len(group) for group in groups])
    whole = value(rows)
    without = np.array([value(np.delete(rows, group)) for group in groups])
    times = items / sizes
    pseudo = whole + (times - 1) * (whole - without)
    error = np.sqrt(np.mean((pseudo - np.average(pseudo, weights=sizes)) ** 2 / (times - 1)))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * float(error)
    return whole - reach, whole + reach


def _difference(statistics: Statistics, first: Rows, second: Rows) -> float:
    return statistics.value(second) - statistics.value(first)
