"""One figure for each question: metrics by strategy, confused emotions, length of replies, cost of a reply."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from localemp.dialogue import EMOTIONS
from localemp.metrics.emotion import NO_LABEL, Confusion, confusion
from localemp.metrics.registry import CHOICE, EPITOME
from localemp.reporting import svg, tradeoff
from localemp.reporting.cost import SECONDS, Effort, quantities_of, words_of
from localemp.reporting.scatter import Mark, scatter
from localemp.reporting.systems import System
from localemp.reporting.tables import Row, Table, amount

# So that emotions that are close to one another are neighbours, and what is taken for its kin lies near the diagonal.
BY_KIN: tuple[str, ...] = (
    "joyful", "excited", "proud", "impressed", "surprised", "grateful", "content", "caring",
    "trusting", "faithful", "confident", "prepared", "hopeful", "anticipating", "nostalgic", "sentimental",
    "lonely", "sad", "devastated", "disappointed", "ashamed", "guilty", "embarrassed", "anxious",
    "apprehensive", "afraid", "terrified", "jealous", "disgusted", "annoyed", "angry", "furious",
)  # fmt: skip
_QUANTILES = (5, 25, 50, 75, 95)
_FURTHER = (*EPITOME[:3], CHOICE)  # of the further groups: what is about empathy itself


@dataclass(frozen=True, slots=True)
class Figure:
    """A question and the charts that answer it.

    Attributes:
        key: A short name for links.
        question: The question.
        charts: The charts, side by side if there is room.
        caption: How to read them.
        legend: Pairs of a class in the page's style and its meaning.
        wide: Whether a chart is wider than a phone.
        warning: Something that no reader may overlook.
    """

    key: str
    question: str
    charts: tuple[Markup, ...]
    caption: str
    legend: tuple[tuple[str, str], ...] = ()
    wide: bool = False
    warning: str = ""


def figures(systems: Sequence[System], efforts: Sequence[Effort], metrics: Sequence[Table]) -> list[Figure]:
    """Return the figures for which the runs have data; `metrics` are the tables of metrics, the paper's first."""
    runs = [system for system in systems if system.replies is not None]
    made = [
        _metrics(metrics),
        _tradeoff(runs, efforts, metrics[0]),
        _length(runs, efforts),
        _cost(runs, efforts),
        _confusions(runs),
    ]
    return [figure for figure in made if figure.charts]


def _metrics(tables: Sequence[Table]) -> Figure:
    charts = []
    for table in tables:
        drawn = set(_FURTHER) if table is not tables[0] else set(table.columns) - {"Replies"}
        for index, column in enumerate(table.columns):
            rows = [row for row in _shown(table) if row.cells[index].value is not None]
            if column in drawn and any(not row.published for row in rows):
                charts.append(svg.dots(column, [_dot(row, index) for row in rows]))
    hollow = any(cell.mark for table in tables for row in table.rows for cell in row.cells)
    legend = [("dot", "run")]
    if hollow:
        legend.append(("dot hollow", "computed in another way or on other dialogues than most; see the table's notes"))
    if any(row.published for row in _shown(tables[0])):
        legend.append(("dot dim", "the paper"))
    caption = "Each metric has its own scale, given at its top; it starts at 0 unless the values are close together."
    told = tuple(legend) if len(legend) > 1 else ()
    return Figure("metrics", "How do the strategies score?", tuple(charts), caption, told)


def _shown(table: Table) -> list[Row]:
    """Return our rows, and of the paper's only those that stand beside ours: all would hide them."""
    return [row for row in table.rows if row.beside or not row.published]


def _tradeoff(runs: Sequence[System], efforts: Sequence[Effort], table: Table) -> Figure:
    """Quality against cost, a chart for each metric that two runs or more have."""
    cost = tradeoff.cost_of(runs, efforts)
    charts, hollow = [], False
    for column in tradeoff.QUALITIES if cost else ():
        found = tradeoff.points(runs, cost, table, column) if cost else []
        if cost and len(found) > 1:
            marks = [
                Mark(each.name, each.cost, each.value, cost.shown(each.cost), each.shown, each.interval, each.best,
                     bool(each.mark))
                for each in found
            ]  # fmt: skip
            charts.append(scatter(column, cost.title, (cost.column, column), marks))
            hollow = hollow or any(each.mark for each in found)
    caption = (
        "Up is better, left is cheaper. The line is the Pareto front: no run is both better and cheaper than one on "
        "it, and the best to be had at a cost lies on it. Vertical lines are 95 % intervals over other dialogues of "
        "the same kind and number (bootstrap; jackknife for Dist); where they overlap, the order of two runs may be "
        "chance."
    )
    if cost and cost.key == "tokens":
        caption += " Tokens are read and written, all stages together; those of different models do not cost the same."
    if cost and (without := [run.name for run, of in zip(runs, cost.values, strict=True) if of is None]):
        caption += f" Without known cost: {', '.join(without)}."
    legend = [("dot", "on the front"), ("dot beaten", "another run is as good or better, and no dearer")]
    if hollow:
        legend.append(("dot hollow", "not comparable with most, so not on the front; see the table's notes"))
    return Figure("tradeoff", "What does quality cost?", tuple(charts), caption, tuple(legend))


def _dot(row: Row, index: int) -> tuple[svg.Line, float | None, bool]:
    cell = row.cells[index]
    return (
        svg.Line(row.name, cell.text + (f" ({cell.mark})" if cell.mark else ""), row.published),
        cell.value,
        bool(cell.mark),
    )


def _length(runs: Sequence[System], efforts: Sequence[Effort]) -> Figure:
    rows = [_box(system.name, effort.words) for system, effort in zip(runs, efforts, strict=True)]
    known = {item.id: item.reference for run in runs if run.replies for item in run.replies.items if item.reference}
    if known:
        rows.append(_box("what people replied", words_of(known.values()), dim=True))
    caption = (
        "Words by whitespace. The box covers the middle half of the replies, its vertical line is the median (the "
        "number on the right), the thin line covers 90 %."
    )
    charts = (svg.boxes("Words in a reply", rows),) if rows else ()
    return Figure("length", "How long are the replies?", charts, caption)


def _box(name: str, words: Sequence[int], dim: bool = False) -> tuple[svg.Line, list[float]]:
    quantiles = [float(value) for value in np.percentile(words, _QUANTILES)]
    return svg.Line(name, f"{quantiles[2]:g}", dim), quantiles


def _cost(runs: Sequence[System], efforts: Sequence[Effort]) -> Figure:
    charts = []
    for key, title, unit, decimals in quantities_of(efforts):
        rows = []
        for system, effort in zip(runs, efforts, strict=True):
            total = effort.total(key)
            shown = "n/a" if total is None else amount(total, decimals)
            parts = [] if total is None else _parts(system.name, effort, key, unit)
            rows.append((svg.Line(system.name, shown), parts))
        if any(parts for _, parts in rows):
            charts.append(svg.bars(f"{title} for a reply", rows))
    before = {stage for effort in efforts for stage in effort.stages} - {"reply"}
    first = "stage 1: names the feeling" if before == {"feeling"} else "the stages before, and candidates"
    legend = (("part first", first), ("part", "the reply")) if before else ()
    return Figure("cost", "What does a reply cost?", tuple(charts), f"Means for one reply. {SECONDS}", legend)


def _parts(name: str, effort: Effort, key: str, unit: str) -> list[svg.Segment]:
    return [
        svg.Segment(
            each[key] or 0,
            "part" if stage == "reply" else "part first",
            f"{name}, {stage}: {each[key] or 0:.4g} {unit}",
        )
        for stage, each in effort.stages.items()
    ]


def _confusions(runs: Sequence[System]) -> Figure:
    charts = []
    for system in runs:
        if system.replies:
            found = confusion(system.replies)
            if found.counts.any() and any(item.feeling is not None for item in system.replies.items):
                charts.append(_confusion(system.name, found))
    caption = (
        "Rows are the emotions in the data (with the number of dialogues), columns the first of the 32 that the "
        "stage feeling names. The darker a cell, the larger its share of the row; correct cells are framed. Similar "
        "emotions are next to each other."
    )
    return Figure("confusion", "Which emotions does the model confuse?", tuple(charts), caption, wide=True)


def _confusion(name: str, found: Confusion) -> Markup:
    assert set(BY_KIN) == set(EMOTIONS)
    order = [found.labels.index(emotion) for emotion in BY_KIN]
    rows = [number for number in order if found.counts[number].any()]
    columns = [number for number in order if found.counts[:, number].any() or number in rows] + [len(EMOTIONS)]
    right = int(np.trace(found.counts[:, : len(EMOTIONS)]))
    title = f"{name}: {right} of {int(found.counts.sum())} emotions named correctly"
    counts = [[int(found.counts[row, column]) for column in columns] for row in rows]
    labels = [found.columns[column] for column in columns]
    assert labels[-1] == NO_LABEL
    return svg.grid(title, [found.labels[row] for row in rows], labels, counts)
