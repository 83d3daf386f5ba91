"""What a pilot's answers say about its raters: ties, agreement and spread, for planning a larger study.

Both are of a one-way analysis of variance within each comparison (or system) and aspect, so that differences between
these do not count as agreement: the variance between dialogues beyond that of raters, over the sum of both.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Numbers
from localemp.studies.stats.matrix import RatingMatrix


@dataclass(frozen=True, slots=True)
class Pilot:
    """Figures of a pilot.

    Attributes:
        dialogues, answers: How many there are.
        ties: Share of ties; None for ratings.
        agreement: Intraclass correlation of two raters' values on one dialogue, at least 0; None if no value is of two.
        sd: Of one rater's ratings of one system; None for votes, or where all are equal. If raters rated both replies
            to a dialogue, it is that of their differences over the square root of 2, so that what the two replies have
            in common is left out.
        paired: Whether they did; agreement is that of the differences then.
    """

    dialogues: int
    answers: int
    ties: float | None = None
    agreement: float | None = None
    sd: float | None = None
    paired: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return asdict(self)


def pilot_figures(matrix: RatingMatrix) -> Pilot:
    """Compute the figures of people's answers."""
    answered = matrix.only()
    told = int(np.isfinite(answered.values).sum())
    dialogues = len(set(answered.dialogues))
    if matrix.ab:
        agreement, _ = _components(list(_cells(answered)))
        return Pilot(dialogues, told, float((answered.values == 0).sum() / told), agreement)
    cells = list(_differences(answered))
    paired = bool(cells)
    agreement, variance = _components(cells or list(_cells(answered)))
    sd = None if not variance else float(np.sqrt(variance / (2 if paired else 1)))
    return Pilot(dialogues, told, None, agreement, sd, paired)


def _cells(matrix: RatingMatrix) -> Iterator[Numbers]:
    """The answers of each aspect and comparison (or system), one row a rater."""
    for aspect, group in dict.fromkeys((unit.aspect, unit.group) for unit in matrix.units):
        yield matrix.only(aspect, group).values


def _differences(matrix: RatingMatrix) -> Iterator[Numbers]:
    """What the same rater gave two systems on one item, one less the other; of each aspect and pair of systems."""
    column = {(unit.aspect, unit.item, unit.group): place for place, unit in enumerate(matrix.units)}
    items: dict[str, None] = dict.fromkeys(unit.item for unit in matrix.units)
    systems = dict.fromkeys(unit.group for unit in matrix.units)
    for aspect in dict.fromkeys(unit.aspect for unit in matrix.units):
        for one, other in combinations(systems, 2):
            keys = [((aspect, item, one), (aspect, item, other)) for item in items]
            pairs = [(column[a], column[b]) for a, b in keys if a in column and b in column]
            values = np.array([matrix.values[:, a] - matrix.values[:, b] for a, b in pairs]).T
            if np.isfinite(values).any():
                yield values


def _components(cells: list[Numbers]) -> tuple[float | None, float | None]:
    """Return the intraclass correlation (None without two values on one unit) and the variance of one value."""
    within = between = freedom_within = freedom_between = size = 0.0
    for values in cells:
        counts = np.isfinite(values).sum(axis=0)
        values, counts = values[:, counts > 0], counts[counts > 0]
        means, total = np.nanmean(values, axis=0), counts.sum()
        within += float(np.nansum((values - means) ** 2))
        between += float((counts * (means - np.nansum(values) / total) ** 2).sum())
        freedom_within += total - len(counts)
        freedom_between += len(counts) - 1
        size += total - (counts**2).sum() / total
    if not freedom_between:
        return None, None
    if not freedom_within:
        return None, between / freedom_between
    noise = within / freedom_within
    common = max(0.0, (between / freedom_between - noise) / (size / freedom_between))
    variance = common + noise
    return (float(common / variance) if variance else None), variance
