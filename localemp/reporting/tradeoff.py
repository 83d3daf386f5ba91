"""Quality against cost: what a reply of each run costs, how good it is, and which runs no other one beats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localemp.metrics.base import Metric
from localemp.metrics.kept_values import KeptMetric
from localemp.metrics.registry import metric, metric_entries
from localemp.metrics.significance import Interval, value_interval
from localemp.reporting.cost import DOLLARS, Effort, dollars_for_thousand
from localemp.reporting.systems import System
from localemp.reporting.tables import Table, amount

# One of each sort: likeness of meaning, of words, variety, and the emotion that the model names.
QUALITIES = ("F_BERT", "B-2", "Dist-2", "Acc")
SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a reply in one unit.

    Attributes:
        key: "dollars", "tokens" or "seconds".
        title: What the axis says.
        column: What a column of costs says.
        values: Cost of a reply for each run; None if it is not known.
    """

    key: str
    title: str
    column: str
    values: tuple[float | None, ...]

    def shown(self, value: float) -> str:
        """Return a cost as text."""
        if self.key == "dollars":
            return f"{value:.3g}"
        return amount(value, 0 if self.key == "tokens" and value >= 10 else 2)


@dataclass(frozen=True, slots=True)
class Point:
    """One run.

    Attributes:
        name: Its name.
        cost: The cost of a reply.
        value: The metric.
        shown: The metric as the table shows it.
        interval: Its 95 % interval; None if there is none.
        mark: The table's letter where the value is not comparable with most.
        best: Whether no run is both better and cheaper: it lies on the Pareto front.
    """

    name: str
    cost: float
    value: float
    shown: str
    interval: Interval | None = None
    mark: str = ""
    best: bool = False


def cost_of(runs: Sequence[System], efforts: Sequence[Effort]) -> Cost | None:
    """Return the cost of a reply: in dollars if all runs have a price, else in tokens, else in seconds.

    Tokens are those that the model read and wrote, all stages together. None if fewer than two runs have a cost.
    """
    dollars = [dollars_for_thousand(system) for system in runs]
    if runs and all(dollars):
        return Cost("dollars", "US dollars for 1,000 replies", DOLLARS, tuple(dollars))
    tokens = tuple(_tokens(effort) for effort in efforts)
    if sum(value is not None for value in tokens) > 1:
        return Cost("tokens", "tokens for a reply, read and written", "tokens", tokens)
    seconds = tuple(effort.total("seconds") or None for effort in efforts)
    if sum(value is not None for value in seconds) > 1:
        return Cost("seconds", "seconds for a reply", "seconds", seconds)
    return None


def points(runs: Sequence[System], cost: Cost, table: Table, column: str) -> list[Point]:
    """Return the runs that have both a cost and a value, the cheapest first, and mark those on the Pareto front.

    Args:
        runs: All runs.
        cost: Of each.
        table: The table that has the values.
        column: The metric.
    """
    if column not in table.columns:
        return []
    cells = {row.name: row.cells[table.columns.index(column)] for row in table.rows if not row.published}
    found = []
    for system, of in zip(runs, cost.values, strict=True):
        cell = cells[system.name]
        if of is not None and cell.value is not None:
            found.append(Point(system.name, of, cell.value, cell.text, _interval(system, column), cell.mark))
    found.sort(key=lambda point: (point.cost, -point.value))
    return _with_front(found)


def _with_front(found: Sequence[Point]) -> list[Point]:
    """Mark each point that is better than every cheaper one; what is not comparable is never on the front."""
    marked, best = [], float("-inf")
    for point in found:
        is_best = not point.mark and point.value > best
        best = point.value if is_best else best
        marked.append(replace(point, best=is_best))
    return marked


def _interval(system: System, column: str) -> Interval | None:
    assert system.replies is not None
    if not metric_entries()[column].needs_model:
        chosen: Metric = metric(column)
    elif system.kept is not None:
        chosen = KeptMetric(column, {system.name: system.kept})
    else:
        return None
    if chosen.missing(system.replies):
        return None
    return value_interval(chosen.statistics([system.replies]), len(system.replies), SAMPLES)


def _tokens(effort: Effort) -> float | None:
    read, written = effort.total("prompt_tokens"), effort.total("completion_tokens")
    return None if read is None or written is None else (read + written) or None
