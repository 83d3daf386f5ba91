"""Compare two results of one benchmark: what changed beyond the spread of their repeats."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localemp.bench.quantities import QUANTITIES, Quantity, quantity
from localemp.bench.result import Point, Result
from localemp.errors import OptionError
from localemp.utils.config_diff import compare_settings

SAME = "the same"
WITHIN = "within the spread"
UNKNOWN = "one measurement: the spread is unknown"

_SPEEDS = ("1/s", "tokens/s", "GB/s", "TFLOP/s", "s", "ms", "GPU-s")
_FACTS = ("machine", "versions", "settings")


@dataclass(frozen=True)
class Change:
    """One quantity of a point in both results.

    Attributes:
        part, label: The point's part and label.
        quantity: The quantity.
        a, b: Its repeats in each result.
    """

    part: str
    label: str
    quantity: Quantity
    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """The medians of both."""
        return statistics.median(self.a), statistics.median(self.b)

    @property
    def ratio(self) -> float | None:
        """B's median divided by A's; None if A's is zero."""
        a, b = self.medians
        return b / a if a else None

    @cached_property
    def verdict(self) -> str:
        """B compared with A: faster or slower, better or worse, higher or lower, or within the spread.

        A difference is within the spread if the ranges of the repeats overlap or touch.
        """
        if set(self.a) == set(self.b) and len(set(self.a)) == 1:
            return SAME
        if min(len(self.a), len(self.b)) == 1:
            return UNKNOWN
        if max(self.a) < min(self.b):
            return self._words[0]
        return self._words[1] if max(self.b) < min(self.a) else WITHIN

    @property
    def is_change(self) -> bool:
        """Whether it is beyond the spread, or may be."""
        return self.verdict not in (SAME, WITHIN)

    @property
    def is_known(self) -> bool:
        """Whether both sides were measured more than once."""
        return self.verdict != UNKNOWN

    @property
    def _words(self) -> tuple[str, str]:
        """The words for a rise and for a fall."""
        if not self.quantity.better:
            return "higher", "lower"
        good, bad = ("faster", "slower") if self.quantity.unit in _SPEEDS else ("better", "worse")
        return (good, bad) if self.quantity.better == "more" else (bad, good)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {
            "part": self.part,
            "point": self.label,
            "figure": self.quantity.name,
            "a": list(self.a),
            "b": list(self.b),
            "median_a": self.medians[0],
            "median_b": self.medians[1],
            "ratio": self.ratio,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """Two results, point by point.

    Attributes:
        warnings: What no reader may overlook.
        differences: Differences in machine, versions and settings, one line each.
        changes: Every quantity in both results, changed or not.
        only_a, only_b: What only one of them has, one line each.
    """

    warnings: tuple[str, ...]
    differences: tuple[str, ...]
    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {
            "format": 1,
            "warnings": list(self.warnings),
            "differences": list(self.differences),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "changes": [change.as_dict() for change in self.changes],
        }


def compare(a: Result, b: Result) -> Comparison:
    """Compare two results of one kind; points match if part and labels are equal.

    Raises:
        OptionError: They are of different kinds, or have no point in common.
    """
    if a.kind != b.kind:
        raise OptionError(
            f"A is of `bench {a.kind}`, B of `bench {b.kind}`: they have nothing in common",
            "compare two results of the same command",
        )
    ours, theirs = dict(_values(a)), dict(_values(b))
    changes = [
        Change(key[0], label, quantity(key[-1]), values, theirs[key][1])
        for key, (label, values) in ours.items()
        if key in theirs
    ]
    if not changes:
        raise OptionError("A and B share no point: none has the same part and labels", _first_points(a, b))
    return Comparison(
        tuple(_warnings(a, b)),
        tuple(_differences(a, b)),
        tuple(changes),
        _missing(ours, theirs),
        _missing(theirs, ours),
    )


_Key = tuple[str, frozenset[tuple[str, Any]], int, str]
_Found = Mapping[_Key, tuple[str, tuple[float, ...]]]


def _values(result: Result) -> Iterator[tuple[_Key, tuple[str, tuple[float, ...]]]]:
    """Every value by point and quantity; points with equal labels are matched in order."""
    seen: dict[Any, int] = defaultdict(int)
    for point in result.points:
        what = (point.part, frozenset(point.labels.items()))
        seen[what] += 1
        for name in QUANTITIES:
            if name in point.values:
                yield (*what, seen[what], name), (point.label, point.values[name])


def _missing(found: _Found, other: _Found) -> tuple[str, ...]:
    """The quantities missing in the other, one line for each point."""
    lines: dict[str, list[str]] = {}
    for key, (label, _) in found.items():
        if key not in other:
            lines.setdefault(f"{key[0]}, {label}" if label else key[0], []).append(quantity(key[-1]).title)
    return tuple(f"{point}: {', '.join(names)}" for point, names in lines.items())


def _warnings(a: Result, b: Result) -> Iterator[str]:
    if a.dummy != b.dummy:
        made_up, real = ("A", "B") if a.dummy else ("B", "A")
        yield (
            f"{made_up} has dummy weights, {real} real ones: speeds of equal shapes and equal numbers of tokens can be "
            "compared, nothing else"
        )
    for name, result in (("A", a), ("B", b)):
        # That one alone is dummy was said.
        if warning := result.model_copy(update={"dummy": a.dummy and b.dummy}).warning:
            yield f"{name}: {warning}"


def _differences(a: Result, b: Result) -> Iterator[str]:
    for facts in _FACTS:
        yield from compare_settings(getattr(a, facts), getattr(b, facts), "in A", "in B")


def _first_points(a: Result, b: Result) -> str:
    def first(points: list[Point]) -> str:
        return f"{points[0].part}, {points[0].label}" if points else "nothing"

    return f"A starts with: {first(a.points)}; B with: {first(b.points)}"
