"""The best values of each column of a report, and those that are not significantly worse, for `--bold`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from localemp.errors import LocalempError, OptionError
from localemp.metrics.base import Metric
from localemp.metrics.pairing import pair
from localemp.metrics.registry import decimals, is_hidden, metric
from localemp.metrics.replies import Replies
from localemp.metrics.significance import SAMPLES, SEED, holm, randomisation_p
from localemp.reporting.comparing import differing
from localemp.reporting.differences import SAMPLES_A_ROW, SIGNIFICANT, compared_metrics
from localemp.reporting.systems import System
from localemp.reporting.tables import Note, Row, Table, listed, number
from localemp.utils.progress import OnProgress, Progress, silent


@dataclass(frozen=True, slots=True)
class Best:
    """What is bold.

    Attributes:
        names: Metric -> the systems whose value is bold.
        untested: Metrics of which some system could not be tested, so that only the best value is bold there.
        samples: Random swaps of each test.
        seed: Their seed.
    """

    names: Mapping[str, frozenset[str]]
    untested: tuple[str, ...]
    samples: int
    seed: int

    def note(self) -> Note:
        """Say what bold means."""
        untested = f" Not tested, so that only the best is bold: {listed(self.untested)}." if self.untested else ""
        return Note(
            "Bold: the best value of a column, and those that are not significantly worse, whose p is "
            f"{SIGNIFICANT} or more by approximate randomisation ({self.samples:,} samples, seed {self.seed}) on the "
            "dialogues that both answered, corrected by Holm's method over the column. Values with a letter and the "
            f"paper's take no part.{untested}",
            defines=True,
        )


def find_best(systems: Sequence[System], seed: int = SEED, on_progress: OnProgress = silent) -> Best:
    """Find the best values of every metric that has a direction, and test the others against them.

    A metric has nothing bold with fewer than two values that can be compared, or with equal ones.

    Args:
        systems: All rows.
        seed: Seed of the tests.
        on_progress: Called with metrics tested.
    """
    samples = max(SAMPLES, SAMPLES_A_ROW * (len(systems) - 1))
    testable = {each.name: each for each in compared_metrics(systems)}
    scored = list(dict.fromkeys(name for system in systems for name in system.scores))
    names: dict[str, frozenset[str]] = {}
    untested = []
    for place, name in enumerate(scored):
        on_progress(Progress("Testing", place, len(scored), "metrics", name))
        values = _values(systems, name)
        if len(values) < 2:
            continue
        best, *others = sorted(values, key=lambda each: -values[each] * _direction(name))
        shown = number(values[best], decimals(name))
        level = {each for each in values if number(values[each], decimals(name)) == shown}
        if len(level) == len(values):  # nothing stands out
            continue
        rest = {system.name: system for system in systems if system.name in others}
        of_best = next(system for system in systems if system.name == best)
        ps = {each: _p(testable.get(name), of_best, rest[each], samples, seed) for each in others}
        if any(p is None for each, p in ps.items() if each not in level):
            untested.append(name)
            names[name] = frozenset(level)
        else:
            corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
            alike = {each for each, p in corrected.items() if p is not None and p >= SIGNIFICANT}
            names[name] = frozenset(level | alike)
    on_progress(Progress("Testing", len(scored), len(scored), "metrics"))
    return Best(names, tuple(untested), samples, seed)


def embolden(tables: Iterable[Table], best: Best) -> list[Table]:
    """Return the tables, with the best values of those of automatic metrics in bold."""
    made = []
    for table in tables:
        if table.kind == "automatic" and any(best.names.get(column) for column in table.columns):
            rows = tuple(row if row.published else _bold(row, table.columns, best) for row in table.rows)
            table = replace(table, rows=rows, notes=(best.note(), *table.notes))
        made.append(table)
    return made


def _bold(row: Row, columns: Sequence[str], best: Best) -> Row:
    cells = zip(row.cells, columns, strict=True)
    return replace(row, cells=tuple(replace(cell, bold=row.name in best.names.get(name, ())) for cell, name in cells))


def _values(systems: Sequence[System], name: str) -> dict[str, float]:
    """Return the values that can be compared, by system; none of secondary metrics and those without direction."""
    if is_hidden(name) or not _direction(name):
        return {}
    marked = differing(systems, name)
    scores = {system.name: system.scores.get(name) for system in systems if system.name not in marked}
    return {each: score.value for each, score in scores.items() if score is not None and score.value is not None}


def _direction(name: str) -> int:
    try:
        better = metric(name).higher_is_better
    except LocalempError:  # a metric of a plug-in that is not installed here
        return 0
    return {True: 1, False: -1, None: 0}[better]


def _p(metric: Metric | None, best: System, other: System, samples: int, seed: int) -> float | None:
    """Return p of a difference; None if it cannot be tested."""
    if metric is None or best.replies is None or other.replies is None:
        return None
    try:
        both = pair(best.replies, other.replies)
        return None if _missing(metric, both.a, both.b) else _randomised(metric, both.a, both.b, samples, seed)
    except OptionError:  # no dialogue in common
        return None


def _missing(metric: Metric, a: Replies, b: Replies) -> bool:
    return len(a) < 2 or any(metric.missing(system) for system in (a, b))


def _randomised(metric: Metric, a: Replies, b: Replies, samples: int, seed: int) -> float | None:
    p = randomisation_p(metric.statistics([a, b]), len(a), samples, seed)
    return p if np.isfinite(p) else None
