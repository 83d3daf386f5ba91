"""Results of benchmarks as tables for page and Markdown, with the origin of each result."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.bench.quantities import QUANTITIES
from localemp.bench.result import Point, Result
from localemp.reporting.tables import NOT_GIVEN, Cell, Note, Row, Table
from localemp.utils.formatting import plain

_TOO_MUCH = (
    "A share above 100 % is not real: the device was busy while its rates were measured, or this work runs from a "
    "cache."
)

# The URL in results of `bench serve` for a server that it started itself.
HERE = "localemp serve"


@dataclass(frozen=True)
class Named:
    """A result with a name that is unique in the report."""

    name: str
    result: Result

    @property
    def label(self) -> str:
        """The name, with warnings that no reader may overlook."""
        return self.name + self._marks("dummy weights", "not finished")

    def short(self, most: int = 30) -> str:
        """Return the label for the head of a chart: a long name is cut in the middle."""
        half = most // 2
        name = self.name if len(self.name) <= most else f"{self.name[: half - 1]}…{self.name[-half:]}"
        return name + self._marks("dummy", "unfinished")

    def _marks(self, dummy: str, unfinished: str) -> str:
        marks = [dummy] if self.result.dummy else []
        if not self.result.finished:
            marks.append(unfinished)
        return f" ({', '.join(marks)})" if marks else ""

    @property
    def made(self) -> str:
        """Time, machine, versions and settings, in a line."""
        result = self.result
        facts = [f"{name} {text}" for name, text in self._machine.items()]
        return "; ".join(
            [result.created, *facts, *(f"{name}: {plain(each)}" for name, each in result.settings.items())]
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The same as pairs of names and texts, the command first."""
        result = self.result
        facts = {"command": result.command, "began": result.created, **self._machine}
        return [*facts.items(), *_flat(result.settings)]

    @property
    def _machine(self) -> dict[str, str]:
        """Machine and versions; with a remote server they are only the client's."""
        facts, server = self.result.machine | self.result.versions, self.result.settings.get("url", HERE)
        return facts if server == HERE else {f"client's {name}": text for name, text in facts.items()}


def failed_share(point: Point) -> str:
    """Return the share of a load's requests that failed, over all repeats; empty if none did."""
    shares = point.values.get("failed", (0.0,))
    return f"{QUANTITIES['failed'].shown(statistics.mean(shares))} failed" if any(shares) else ""


def named(results: Sequence[tuple[Path, Result]]) -> list[Named]:
    """Name results by their titles; equal titles get the names of their files."""
    titles = [result.title for _, result in results]
    return [
        Named(result.title if titles.count(result.title) == 1 else f"{result.title}, {path.stem}", result)
        for path, result in results
    ]


def tables_of(named: Named, key: str = "result") -> list[Table]:
    """Return a table for each part of a result: one row for each point, or one column if there are few points."""
    parts = named.result.parts.items()
    return [_table(named, part, points, f"{key}-{number}") for number, (part, points) in enumerate(parts, 1)]


def _table(named: Named, part: str, points: list[Point], key: str) -> Table:
    names = [name for name in QUANTITIES if any(name in point.values for point in points)]
    cells = [[_cell(point, name) for name in names] for point in points]
    heads, labels = [QUANTITIES[name].head for name in names], _labels(points)
    head = ", ".join(labels)
    told = [", ".join(values) for values in zip(*labels.values(), strict=True)] or [part] * len(points)
    failed = map(failed_share, points)
    told = [f"{label} ({share})" if share else label for label, share in zip(told, failed, strict=True)]
    if len(names) > max(6, len(points)):
        cells, heads, told = [list(row) for row in zip(*cells, strict=True)], told, heads
    same = {f"{name} {value}": None for name, value in points[0].labels.items() if name not in labels}
    title = ", ".join([f"{named.label}: {part}", *same])
    notes = [named.result.warning, *(f"{point.label}: {point.note}" if point.note else "" for point in points)]
    shares = [value for point in points for name in ("mfu", "mbu") for value in point.values.get(name, ())]
    notes += [_TOO_MUCH] if max(shares, default=0) > 1 else []
    notes += ["Medians of the repeats, with the range in parentheses.", *named.result.notes]
    return Table(
        key, "bench", title, head, tuple(heads),
        tuple(Row(label, tuple(row)) for label, row in zip(told, cells, strict=True)),
        tuple(Note(text) for text in dict.fromkeys(notes) if text),
        ((named.result.command, named.made),),
    )  # fmt: skip


def _labels(points: list[Point]) -> dict[str, list[str]]:
    """The labels that set points apart, a text for each point."""
    names = dict.fromkeys(name for point in points for name in point.labels)
    texts = {name: [str(point.labels.get(name, NOT_GIVEN)) for point in points] for name in names}
    return {name: values for name, values in texts.items() if len(set(values)) > 1}


def _cell(point: Point, name: str) -> Cell:
    middle, about = point.median(name), QUANTITIES[name]
    if middle is None:
        return Cell(NOT_GIVEN)
    values = point.values[name]
    shown, low, high = (about.shown(value) for value in (middle, min(values), max(values)))
    told = f"{about.head}, of each repeat: " + ", ".join(f"{value:.6g}" for value in values)
    return Cell(shown if low == high else f"{shown} ({low.removesuffix(' %')}–{high.removesuffix(' %')})", middle, told)


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield settings as names and texts, one for each key of a table in them."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{name}: {inner}", text) for inner, text in _flat(value))
        else:
            yield name, plain(value)
