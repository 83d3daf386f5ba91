"""Results of benchmarks on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from localemp.bench.quantities import QUANTITIES
from localemp.bench.result import Point, Result


def print_result(result: Result) -> None:
    """A table for each part, each cell the median of its repeats, with their range where they differ visibly."""
    console = Console()
    if result.warning:
        console.print(Text(result.warning, style="bold yellow"))
    for part, points in result.parts.items():
        console.print(_table(f"{result.title}: {part}", points))
        for note in dict.fromkeys(f"{point.label}: {point.note}" for point in points if point.note):
            console.print(Text(note, style="dim"), soft_wrap=True)
    for note in result.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)


def cell(point: Point, name: str) -> str:
    """The median, and below it the range of the repeats."""
    values, about = point.figures.get(name), QUANTITIES[name]
    if values is None:
        return "–"
    middle = point.median(name)
    assert middle is not None
    shown, low, high = (about.shown(value) for value in (middle, min(values), max(values)))
    return shown if low == high else f"{shown}\n{low}–{high}"


def _table(title: str, points: list[Point]) -> Table:
    """Points as rows; where there are few points and many figures, as columns."""
    names = [name for name in QUANTITIES if any(name in point.figures for point in points)]
    labels = list(dict.fromkeys(label for point in points for label in point.labels))
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    if len(names) > max(6, len(points)):
        table.add_column("")
        for point in points:
            table.add_column(Text("\n".join(str(value) for value in point.labels.values())), justify="right")
        for name in names:
            table.add_row(QUANTITIES[name].head, *(Text(cell(point, name)) for point in points))
        return table
    for label in labels:
        table.add_column(Text(label))
    for name in names:
        table.add_column(Text(QUANTITIES[name].head), justify="right")
    for point in points:
        said = [Text(str(point.labels.get(label, ""))) for label in labels]
        table.add_row(*said, *(Text(cell(point, name)) for name in names))
    return table
