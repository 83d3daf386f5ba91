"""Check whether each item has the number of raters that the design asks for."""

from dataclasses import dataclass

import numpy as np

from localemp.studies.stats.matrix import RatingMatrix


@dataclass(frozen=True, slots=True)
class Coverage:
    """The number of people who have rated the items.

    Attributes:
        annotators: Planned number of people per item.
        items: Number of items, without attention checks.
        whole: Number of items with all annotators or more.
        fewest, most: Lowest and highest number of people per item.
    """

    annotators: int
    items: int
    whole: int
    fewest: int
    most: int


def coverage(matrix: RatingMatrix, annotators: int) -> Coverage:
    """Count the raters of each item: those who answered its least-answered question."""
    raters: dict[str, int] = {}
    for unit, count in zip(matrix.units, np.isfinite(matrix.values).sum(axis=0), strict=True):
        raters[unit.item] = min(int(count), raters.get(unit.item, int(count)))
    counts = raters.values()
    whole = sum(count >= annotators for count in counts)
    return Coverage(annotators, len(counts), whole, min(counts, default=0), max(counts, default=0))
