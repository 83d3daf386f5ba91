"""Results of benchmarks on a terminal."""

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from localemp.bench.quantities import QUANTITIES
from localemp.bench.result import Point, Result

_WIDE = 170


def print_result(result: Result) -> None:
    """A table for each part, each cell the median of its repeats, with their range where they differ visibly."""
    # Into a file tables go as wide as they like.
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    if result.warning:
        console.print(Text(result.warning, style="bold yellow"))
    for part, points in result.parts.items():
        console.print(_table(f"{result.title}: {part}", points, console))
        for note in dict.fromkeys(f"{point.label}: {point.note}" for point in points if point.note):
            console.print(Text(note, style="dim"), soft_wrap=True)
    for note in result.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)


def cell(point: Point, name: str) -> str:
    """The median, and below it the range of the repeats."""
    values, about = point.values.get(name), QUANTITIES[name]
    if values is None:
        return "–"
    middle = point.median(name)
    assert middle is not None
    shown, low, high = (about.shown(value) for value in (middle, min(values), max(values)))
    return shown if low == high else f"{shown}\n{low}–{high}"


def _table(title: str, points: list[Point], console: Console) -> Table:
    """Points as rows; where there are few points and many figures, or too little room, as columns."""
    names = [name for name in QUANTITIES if any(name in point.values for point in points)]
    rows, columns = _rows(title, points, names), _columns(title, points, names)
    free = console.options.update(width=10_000)
    widths = [Measurement.get(console, free, table).maximum for table in (rows, columns)]
    fits = widths[0] <= max(console.width, widths[1])
    return rows if fits and len(names) <= max(6, len(points)) else columns


def _rows(title: str, points: list[Point], names: list[str]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    labels = _labels(points)
    for label in labels:
        table.add_column(Text(label), overflow="fold")
    for name in names:
        table.add_column(Text(QUANTITIES[name].head), justify="right", overflow="fold")
    for point in points:
        said = [Text(str(point.labels.get(label, ""))) for label in labels]
        table.add_row(*said, *(Text(cell(point, name)) for name in names))
    return table


def _columns(title: str, points: list[Point], names: list[str]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    labels = _labels(points)
    table.add_column(Text("\n".join(labels)))
    for point in points:
        said = Text("\n".join(str(point.labels.get(label, "")) for label in labels))
        table.add_column(said, justify="right", overflow="fold")
    for name in names:
        table.add_row(QUANTITIES[name].head, *(Text(cell(point, name)) for point in points))
    return table


def _labels(points: list[Point]) -> list[str]:
    return list(dict.fromkeys(label for point in points for label in point.labels))
