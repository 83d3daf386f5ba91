"""Distinct-n (Li et al. 2016): the share of distinct n-grams in all replies."""

from collections.abc import Mapping, Sequence

import numpy as np

from localemp.metrics.base import PAPER, Metric, Rows, Setting, Statistics, check_same_items
from localemp.metrics.ngrams import ngrams_of
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS


class Distinct(Metric):
    """Distinct over total n-grams of all replies, x100; n-grams do not span replies.

    The value falls with the number of items, so two values are comparable only on the same items.

    Args:
        order: n.
    """

    depends_on_number = True

    def __init__(self, order: int) -> None:
        self.name, self.order = f"Dist-{order}", order
        self.group = PAPER if order <= 2 else "diversity"

    def settings(self) -> Mapping[str, Setting]:
        """Return tokens and order."""
        return {"order": self.order, **TOKEN_SETTINGS, "case": "kept"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the distinct n-grams of every reply and its number of n-grams."""
        return DistinctNgrams(systems, self.order)


class DistinctNgrams(Statistics):
    """For each n-gram the rows that contain it, one after another: a selection of rows then takes one pass.

    Most n-grams are in one row only; of these the number in each row is enough.

    Args:
        systems: Systems that answered the same items.
        order: n.
    """

    def __init__(self, systems: Sequence[Replies], order: int) -> None:
        check_same_items(systems)
        found = ngrams_of(systems, order)
        ids, rows, _ = found.counts()
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        sizes = np.diff(starts, append=len(ids))
        self._totals = found.totals
        self._alone = np.bincount(rows[starts[sizes == 1]], minlength=len(self._totals))
        self._rows = rows[np.repeat(sizes > 1, sizes)]
        shared = sizes[sizes > 1]
        self._starts = np.cumsum(shared) - shared

    def value(self, rows: Rows) -> float:
        """Return distinct n-grams over their divisor, x100; NaN without n-grams."""
        total = int(self._totals[rows].sum())
        if not total:
            return float("nan")
        chosen = np.zeros(len(self._totals), bool)
        chosen[rows] = True
        distinct = int(self._alone[chosen].sum())
        if len(self._starts):
            distinct += int(np.logical_or.reduceat(chosen[self._rows], self._starts).sum())
        return 100 * distinct / self.divisor(total)

    def divisor(self, total: int) -> float:
        """Return what the distinct ones of `total` n-grams are divided by: their number."""
        return total
