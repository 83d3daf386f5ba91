"""The charts of a report as SVG; colours come from the page's style.

Every chart is a list of rows with a label above each shape. It is 320 units wide, as wide as a phone, so that its text
is never smaller than the page's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, LEFT, RIGHT = 320, 2, 66
ROW, TOP, LABEL = 36, 26, 11
GRID = 1.2  # pixels of a unit


@dataclass(frozen=True, slots=True)
class Segment:
    """A length within a bar.

    Attributes:
        value: The length, at least 0.
        style: Its class in the page's style.
        title: The tooltip.
    """

    value: float
    style: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a chart.

    Attributes:
        label: The text above the shape.
        shown: The number as text, on the right.
        dim: Whether it belongs to the paper or to the references.
    """

    label: str
    shown: str
    dim: bool = False


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; underscores in attribute names become hyphens, and trailing ones are dropped."""
    told = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(told), inside)


def bars(title: str, rows: Sequence[tuple[Line, Sequence[Segment]]]) -> Markup:
    """Return bars from zero, each of one or more parts side by side."""
    longest = max((sum(part.value for part in parts) for _, parts in rows), default=0) or 1
    shapes = []
    for index, (line, parts) in enumerate(rows):
        y, x = _top(index), float(LEFT)
        shapes.append(_label(line, y))
        for part in parts:
            width = part.value / longest * (WIDTH - LEFT - RIGHT)
            mark = tag("title", part.title)
            shapes.append(tag("rect", mark, x=x, y=y + 18, width=max(width, 0.5), height=9, class_=part.style))
            x += width
        shapes.append(tag("text", line.shown, x=x + 6, y=y + 26.5, class_="value"))
    return _chart(title, "", rows, shapes)


def dots(title: str, rows: Sequence[tuple[Line, float | None, bool]]) -> Markup:
    """Return a dot for each value on a common scale; a hollow one if it is not comparable with the others."""
    values = [value for _, value, _ in rows if value is not None]
    low, high = scale(values)
    span = (high - low) or 1
    shapes = []
    for index, (line, value, hollow) in enumerate(rows):
        y, end = _top(index), WIDTH - RIGHT
        shapes += [_label(line, y), tag("line", x1=LEFT, x2=end, y1=y + 22.5, y2=y + 22.5, class_="rail")]
        if value is not None:
            x = LEFT + 5 + (value - low) / span * (end - LEFT - 10)
            style = "dot" + (" dim" if line.dim else "") + (" hollow" if hollow else "")
            shapes.append(
                tag("circle", tag("title", f"{line.label}: {line.shown}"), cx=x, cy=y + 22.5, r=5, class_=style)
            )
        shapes.append(tag("text", line.shown, x=end + 6, y=y + 26.5, class_="value"))
    return _chart(title, _range(low, high), [(line, ()) for line, *_ in rows], shapes)


def boxes(title: str, rows: Sequence[tuple[Line, Sequence[float]]]) -> Markup:
    """Return box plots of five quantiles (5, 25, 50, 75, 95 %): a line, a box on it, the median."""
    longest = max((quantiles[-1] for _, quantiles in rows), default=0) or 1
    shapes = []
    for index, (line, quantiles) in enumerate(rows):
        y = _top(index)
        at = [LEFT + value / longest * (WIDTH - LEFT - RIGHT) for value in quantiles]
        dim = " dim" if line.dim else ""
        told = tag("title", "5 %, 25 %, 50 %, 75 %, 95 %: " + ", ".join(f"{value:g}" for value in quantiles))
        shapes += [
            _label(line, y),
            tag("line", x1=at[0], x2=at[4], y1=y + 22.5, y2=y + 22.5, class_="whisker"),
            tag("rect", told, x=at[1], y=y + 17, width=max(at[3] - at[1], 1), height=11, class_="box" + dim),
            tag("line", x1=at[2], x2=at[2], y1=y + 15.5, y2=y + 29.5, class_="median" + dim),
            tag("text", line.shown, x=at[4] + 6, y=y + 26.5, class_="value"),
        ]
    return _chart(title, "", rows, shapes)


def grid(title: str, names: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Return a matrix of counts, true labels down, named ones across, shaded by share of the row."""
    cell, left, top = 16, 104, 112
    right, bottom = left + cell * len(columns), top + cell * len(names)
    shapes = [
        tag("text", title, x=0, y=14, class_="head"),
        tag("text", "named by the model", x=left, y=34, class_="axis"),
        tag("text", "in the data", x=left - 6, y=top - 6, text_anchor="end", class_="axis"),
        tag("rect", x=left, y=top, width=right - left, height=bottom - top, class_="plane"),
    ]
    for across, column in enumerate(columns):
        x = left + cell * across + 11.5
        shapes.append(tag("text", column, transform=f"translate({x} {top - 6}) rotate(-90)", class_="tick"))
    for down, (name, row) in enumerate(zip(names, counts, strict=True)):
        y, total = top + cell * down, sum(row)
        shapes.append(tag("text", f"{name} ({total})", x=left - 6, y=y + 12, text_anchor="end", class_="tick"))
        for across, (column, count) in enumerate(zip(columns, row, strict=True)):
            box = {"x": left + cell * across + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1}
            if count:
                told = tag("title", f"{name}, taken for {column}: {count} of {total}")
                shapes.append(tag("rect", told, **box, fill_opacity=f"{count / total:.3f}", class_="cell"))
            if name == column:
                shapes.append(tag("rect", **box, class_="right"))
    width, height = right + 4, bottom + 4
    size = {"width": round(width * GRID), "height": round(height * GRID), "viewBox": f"0 0 {width} {height}"}
    return tag("svg", tag("title", title), *shapes, role="img", class_="grid", **size)


def scale(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a scale: from zero, unless the values are too close together to see a difference."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if high > low >= 0.9 * high:
        room = (high - low) * 0.25
        return low - room, high + room
    return min(low, 0.0), high


def _chart(title: str, unit: str, rows: Sequence[tuple[Line, object]], shapes: Sequence[Markup]) -> Markup:
    told = f"{title}: " + "; ".join(f"{line.label} {line.shown}" for line, _ in rows)
    head = [tag("text", title, x=LEFT, y=14, class_="head")]
    head += [tag("text", unit, x=WIDTH - 2, y=14, text_anchor="end", class_="unit")] if unit else []
    height = _top(len(rows)) + 4
    return tag("svg", tag("title", told), *head, *shapes, role="img", viewBox=f"0 0 {WIDTH} {height}", class_="chart")


def _top(index: int) -> int:
    return TOP + ROW * index


def _label(line: Line, y: float) -> Markup:
    short = shortened(line.label, 46)
    return tag(
        "text", tag("title", line.label), short, x=LEFT, y=y + LABEL, class_="label dim" if line.dim else "label"
    )


def shortened(text: str, longest: int) -> str:
    """Return a label of at most so many signs, without its middle if it has more."""
    end = longest // 2 - 1
    return text if len(text) <= longest else text[:end] + "…" + text[-end:]


def _range(low: float, high: float) -> str:
    return f"from {low:.3g} to {high:.3g}" if low > 0 else f"from 0 to {high:.3g}"


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
