"""Lines over axes, as SVG that takes its colours from the page's style; 320 units wide, like the charts of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from localemp.reporting.svg import tag

WIDTH, HEIGHT = 320, 236
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 40, 40

# Colours in the style ("hue1" ...); further curves reuse them.
HUES = 6

# Room that a tick's text needs, in units: along the horizontal axis, and for each of its characters.
_GAP, _CHARACTER = 8.0, 6.0
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Axis:
    """One of the two axes.

    Attributes:
        title: The quantity, with its unit.
        log: Whether it is logarithmic; values must then be positive.
        zero: Whether a linear axis starts at zero.
    """

    title: str
    log: bool = False
    zero: bool = True

    @property
    def told(self) -> str:
        """The title, marked if the axis is logarithmic."""
        return f"{self.title}, log" if self.log else self.title


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a curve.

    Attributes:
        x, y: Its position.
        title: The tooltip.
        low, high: The range of the repeats around y.
        label: A text above it.
        dim: Whether it is drawn in grey, because its value needs a caveat.
    """

    x: float
    y: float
    title: str = ""
    low: float | None = None
    high: float | None = None
    label: str = ""
    dim: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points.

    Attributes:
        name: Its name, also for screen readers.
        dots: The points, by x.
        style: Classes in the page's style: "hue1", and "dashed", "dotted" or "roof" for the line.
        marks: Whether each point is drawn.
        line: Whether the points are joined.
    """

    name: str
    dots: tuple[Dot, ...]
    style: str = "hue1"
    marks: bool = True
    line: bool = True


def plot(title: str, x: Axis, y: Axis, curves: Sequence[Curve]) -> Markup:
    """Return a plot of curves over two axes with ticks; there must be at least one point."""
    dots = [dot for curve in curves for dot in curve.dots]
    across = _Scale(x, [dot.x for dot in dots], LEFT, WIDTH - RIGHT, [dot.x for dot in dots] if x.log else [])
    ends = [value for dot in dots for value in (dot.low, dot.y, dot.high) if value is not None]
    down = _Scale(y, ends, HEIGHT - BOTTOM, TOP)
    shapes = [
        tag("text", title, x=2, y=14, class_="head"),
        tag("text", y.told, x=2, y=30, class_="axis"),
        tag("text", x.told, x=WIDTH - RIGHT, y=HEIGHT - 6, text_anchor="end", class_="axis"),
    ]
    for value, text in down.ticks(vertical=True):
        at = down(value)
        shapes.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="rail"))
        shapes.append(tag("text", text, x=LEFT - 5, y=at + 3.5, text_anchor="end", class_="tick"))
    for value, text in across.ticks():
        at = across(value)
        shapes.append(tag("line", x1=at, x2=at, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="whisker"))
        shapes.append(tag("text", text, x=at, y=HEIGHT - BOTTOM + 16, text_anchor="middle", class_="tick"))
    shapes.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="whisker"))
    for curve in curves:
        shapes += _drawn(curve, across, down)
    told = f"{title}; {y.title} against {x.title}: " + "; ".join(_told(curve) for curve in curves)
    box = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", tag("title", told), *shapes, role="img", viewBox=box, class_="chart plot")


def compact(value: float) -> str:
    """Return a number as ticks show it: 2.5k, 10M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


class _Scale:
    """Maps the values of an axis to positions.

    Args:
        axis: The axis.
        values: All values that must fit.
        start, end: The positions of its ends.
        chosen: Preferred values of ticks, if there is room.
    """

    def __init__(
        self, axis: Axis, values: Sequence[float], start: float, end: float, chosen: Sequence[float] = ()
    ) -> None:
        self.log, self._start, self._end = axis.log, start, end
        low, high = min(values), max(values)
        if self.log:
            room = (high / low) ** 0.06 if high > low else 2.0
            self.low, self.high = math.log10(low / room), math.log10(high * room)
        else:
            low = min(low, 0.0) if axis.zero else low
            if low == high:
                low, high = low - (not axis.zero), high + 1
            self.low, self.high = low, high + (high - low) * 0.06
        self._chosen = sorted(set(chosen))

    def __call__(self, value: float) -> float:
        share = ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self, vertical: bool = False) -> list[tuple[float, str]]:
        """Return values and texts of as many ticks as fit."""
        candidates = [self._chosen] if self._chosen else []
        candidates += [*self._series()]
        for values in candidates:
            told = [(value, compact(value)) for value in values]
            if len(told) >= 2 and self._fits(told, vertical):
                return told
        return [(value, compact(value)) for value in (self._ends()[0], self._ends()[-1])]

    def _series(self) -> list[list[float]]:
        """Fewer and fewer round values within the axis."""
        if not self.log:
            size = 10.0 ** math.floor(math.log10((self.high - self.low) / 5))
            return [_multiples(self.low, self.high, size * step) for step in (*_STEPS, 20, 25, 50)]
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        series = []
        for steps in ((1, 2, 5), (1, 3), (1,)):
            series.append([step * 10.0**decade for decade in decades for step in steps])
        series += [[10.0**decade for decade in decades if not decade % every] for every in (2, 3, 4)]
        return [[value for value in each if self.low <= math.log10(value) <= self.high] for each in series]

    def _ends(self) -> list[float]:
        return [10.0**self.low, 10.0**self.high] if self.log else [self.low, self.high]

    def _fits(self, told: Sequence[tuple[float, str]], vertical: bool) -> bool:
        for (one, first), (two, second) in pairwise(told):
            needed = 22.0 if vertical else (len(first) + len(second)) / 2 * _CHARACTER + _GAP
            if abs(self(two) - self(one)) < needed:
                return False
        return True


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _drawn(curve: Curve, across: _Scale, down: _Scale) -> list[Markup]:
    at = [(across(dot.x), down(dot.y)) for dot in curve.dots]
    shapes = []
    if curve.line and len(at) > 1:
        path = " ".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(at))
        shapes.append(tag("path", tag("title", curve.name), d=path, class_=f"curve {curve.style}"))
    for dot, (x, y) in zip(curve.dots, at, strict=True):
        if dot.low is not None and dot.high is not None and dot.high > dot.low:
            ends = {"y1": down(dot.low), "y2": down(dot.high)}
            shapes.append(tag("line", x1=x, x2=x, **ends, class_=f"spread {curve.style}"))
        if curve.marks:
            style = "mark dim" if dot.dim else f"mark {curve.style}"
            shapes.append(tag("circle", tag("title", dot.title), cx=x, cy=y, r=3.5, class_=style))
        if dot.label:
            shapes.append(tag("text", dot.label, x=x, y=y - 7, text_anchor=_anchor(dot.label, x), class_="tick"))
    return shapes


def _anchor(label: str, x: float) -> str:
    """The anchor of a label; a long one near an edge ends, or starts, at its point."""
    half = len(label) / 2 * _CHARACTER
    if x + half > WIDTH - RIGHT:
        return "end"
    return "start" if x - half < LEFT else "middle"


def _told(curve: Curve) -> str:
    first, last = curve.dots[0], curve.dots[-1]
    ends = f"{compact(first.y)} at {compact(first.x)}"
    return f"{curve.name} {ends}" + (f" to {compact(last.y)} at {compact(last.x)}" if last is not first else "")
