"""A scatter plot with intervals, a front and a numbered key; svg.py has the other charts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from localemp.reporting.svg import WIDTH, shortened, tag

_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 312, 34, 194
_KEY, _KEY_ROW, _LONGEST = 258, 17, 30
_LABEL = (12, 11)  # width and height that a number takes
_FAR = 17  # between a point and its number, above which a line leads to it
_DECADES = 8  # the ratio of largest to smallest cost from which the axis is logarithmic


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of the plot.

    Attributes:
        label: Its line in the key.
        x, y: Where it lies, in the units of the axes.
        shown_x, shown_y: The same as text, for the key.
        interval: The ends of its vertical line; None for none.
        front: Whether it lies on the front.
        hollow: Whether it cannot be compared with most others.
    """

    label: str
    x: float
    y: float
    shown_x: str
    shown_y: str
    interval: tuple[float, float] | None = None
    front: bool = False
    hollow: bool = False


def scatter(title: str, x_title: str, columns: tuple[str, str], marks: Sequence[Mark]) -> Markup:
    """Return a plot of numbered points, the step line of the front, and below it the key with names and numbers.

    Args:
        title: What the vertical axis is.
        x_title: What the horizontal axis is.
        columns: Heads of the key's two columns of numbers.
        marks: The points, from left to right.
    """
    x_of, x_ticks = _x_axis([mark.x for mark in marks])
    ends = [end for mark in marks for end in mark.interval or (mark.y, mark.y)]
    low, high, y_ticks = _y_axis(min(ends), max(ends))

    def y_of(value: float) -> float:
        return _BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP)

    shapes = [tag("text", title, x=2, y=14, class_="head")]
    for value, text in y_ticks:
        shapes.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y_of(value), y2=y_of(value), class_="rail"))
        shapes.append(tag("text", text, x=_LEFT - 5, y=y_of(value) + 3.5, text_anchor="end", class_="tick"))
    for value, text in x_ticks:
        shapes.append(tag("line", x1=x_of(value), x2=x_of(value), y1=_BOTTOM, y2=_BOTTOM + 4, class_="whisker"))
        shapes.append(tag("text", text, x=x_of(value), y=_BOTTOM + 15, text_anchor="middle", class_="tick"))
    shapes.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM, class_="whisker"))
    shapes.append(tag("text", x_title, x=_RIGHT, y=_BOTTOM + 30, text_anchor="end", class_="axis"))
    places = [(x_of(mark.x), y_of(mark.y)) for mark in marks]
    front = [place for place, mark in zip(places, marks, strict=True) if mark.front]
    shapes.append(_front(front))
    lines = _steps(front)
    for (x, _), mark in zip(places, marks, strict=True):
        if mark.interval:
            top, bottom = y_of(mark.interval[1]), y_of(mark.interval[0])
            lines.append((x - 1, top, x + 1, bottom))
            shapes.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="whisker"))
    for (x, y), mark in zip(places, marks, strict=True):
        style = "dot" + ("" if mark.front else " beaten") + (" hollow" if mark.hollow else "")
        shapes.append(tag("circle", tag("title", _told(mark, columns)), cx=x, cy=y, r=4.5, class_=style))
    for number, (x, y) in enumerate(_labels(places, lines), 1):
        dot_x, dot_y = places[number - 1]
        if math.dist((x, y - 4), (dot_x, dot_y)) > _FAR:
            shapes.append(
                tag("line", x1=dot_x, y1=dot_y, x2=x, y2=y - 4 + (4 if y - 4 < dot_y else -5), class_="leader")
            )
        style = "number front" if marks[number - 1].front else "number"
        shapes.append(tag("text", str(number), x=x, y=y, text_anchor="middle", class_=style))
    shapes += _key(columns, marks)
    height = _KEY + _KEY_ROW * len(marks) + 4
    told = f"{title} against {x_title}: " + "; ".join(_told(mark, columns) for mark in marks)
    return tag("svg", tag("title", told), *shapes, role="img", viewBox=f"0 0 {WIDTH} {height}", class_="chart scatter")


def _told(mark: Mark, columns: tuple[str, str]) -> str:
    front = ", on the front" if mark.front else ""
    return f"{mark.label}: {mark.shown_y} {columns[1]}, {mark.shown_x} {columns[0]}{front}"


def _front(places: Sequence[tuple[float, float]]) -> Markup:
    """A line of steps: the best that is to be had at each cost."""
    if not places:
        return Markup("")
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:]) + f"H{_RIGHT}"
    return tag("path", d=path, class_="front")


def _steps(places: Sequence[tuple[float, float]]) -> list["_Box"]:
    """The front's line as boxes."""
    boxes: list[_Box] = []
    for (x, y), (end, next_y) in zip(places, [*places[1:], (_RIGHT, None)], strict=True):
        boxes.append((x, y - 1, end, y + 1))
        if next_y is not None:
            boxes.append((end - 1, next_y, end + 1, y))
    return boxes


def _key(columns: tuple[str, str], marks: Sequence[Mark]) -> list[Markup]:
    ends = (250, 316)
    shapes = [
        tag("text", text, x=end, y=_KEY - 8, text_anchor="end", class_="tick")
        for text, end in zip(columns, ends, strict=True)
    ]
    for number, mark in enumerate(marks, 1):
        y = _KEY + _KEY_ROW * (number - 1) + 10
        front = " front" if mark.front else ""
        name = shortened(mark.label, _LONGEST)
        shapes += [
            tag("text", str(number), x=14, y=y, text_anchor="end", class_="number" + front),
            tag("text", tag("title", mark.label), name, x=22, y=y, class_="label" + front),
            tag("text", mark.shown_x, x=ends[0], y=y, text_anchor="end", class_="number" + front),
            tag("text", mark.shown_y, x=ends[1], y=y, text_anchor="end", class_="number" + front),
        ]
    return shapes


def _x_axis(values: Sequence[float]) -> tuple["_Scale", list[tuple[float, str]]]:
    low, high = min(values), max(values)
    if low > 0 and high / low > _DECADES:
        scale = _Scale(math.log10(low), math.log10(high), logarithmic=True)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= tick <= high] or [low, high]
        ticks = ticks if len(ticks) <= 6 else [tick for tick in ticks if f"{tick:e}".startswith("1")]
    else:
        step = _step(high / 4 or 1)
        ticks = [step * number for number in range(math.floor(high / step) + 1)]
        scale = _Scale(0, high or 1)
    return scale, [(tick, f"{tick:,.10g}") for tick in ticks]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.logarithmic else value
        room = 10 if self.logarithmic else 0
        return _LEFT + room + (at - self.low) / ((self.high - self.low) or 1) * (_RIGHT - 10 - _LEFT - room)


def _y_axis(low: float, high: float) -> tuple[float, float, list[tuple[float, str]]]:
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = (0.0 if 0 <= low <= room else low - room), high + room
    step = _step((high - low) / 4)
    decimals = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step)
    ticks = [step * number for number in range(first, math.floor(high / step) + 1)]
    return low, high, [(tick, f"{tick + 0.0:,.{decimals}f}") for tick in ticks]


def _step(size: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= size * (1 - 1e-9))


_Box = tuple[float, float, float, float]


def _labels(places: Sequence[tuple[float, float]], lines: Sequence[_Box]) -> list[tuple[float, float]]:
    """Return where each point's number stands: the place around it, or further out, that covers least."""
    dots = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken: list[_Box] = []
    found = []
    for x, y in places:
        best = min(_candidates(x, y), key=partial(_covered, taken=taken, dots=dots, lines=lines))
        taken.append(best)
        found.append(((best[0] + best[2]) / 2, best[3] - 2))
    return found


def _candidates(x: float, y: float) -> list[_Box]:
    width, height = _LABEL
    boxes = []
    for away in (11, 16, 22, 29, 37):
        for across, down in ((1, 0), (-1, 0), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (0, -1), (0, 1)):
            middle, centre = x + across * away, y + down * away
            box = (middle - width / 2, centre - height / 2, middle + width / 2, centre + height / 2)
            if box[0] >= _LEFT - 2 and box[2] <= WIDTH and box[1] >= _TOP - 12 and box[3] <= _BOTTOM:
                boxes.append(box)
    return boxes


def _covered(box: _Box, taken: Sequence[_Box], dots: Sequence[_Box], lines: Sequence[_Box]) -> tuple[int, int]:
    """Count the numbers and points, then the lines, that a number would cover; the first of equals is nearest."""
    on = sum(_overlap(box, other) for other in taken) + sum(_overlap(box, dot) for dot in dots)
    return on, sum(_overlap(box, line) for line in lines)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
