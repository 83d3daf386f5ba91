"""Distinct-n (Li et al. 2016): the share of distinct n-grams in all replies."""

from collections.abc import Mapping, Sequence

import numpy as np

from localemp.metrics.base import Metric, Rows, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, words


class Distinct(Metric):
    """Distinct over total n-grams of all replies, x100; n-grams do not span replies.

    The value falls with the number of items, so two values are comparable only on the same items.

    Args:
        order: n.
    """

    def __init__(self, order: int) -> None:
        self.name, self.order = f"Dist-{order}", order

    def settings(self) -> Mapping[str, Setting]:
        """Return tokens and order."""
        return {"order": self.order, **TOKEN_SETTINGS, "case": "kept"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the distinct n-grams of every reply and its number of n-grams."""
        check_same_items(systems)
        known: dict[tuple[str, ...], int] = {}
        ids, lengths = [], []
        for text in (text for system in systems for text in system.texts):
            tokens = words(text)
            ngrams = list(zip(*(tokens[start:] for start in range(self.order)), strict=False))
            ids.append({known.setdefault(ngram, len(known)) for ngram in ngrams})
            lengths.append(len(ngrams))
        return _Ngrams(ids, lengths)


class _Ngrams(Statistics):
    """For each n-gram the rows that contain it, one after another: a selection of rows then takes one pass."""

    def __init__(self, ids: Sequence[set[int]], lengths: Sequence[int]) -> None:
        pairs = np.array([(ngram, row) for row, each in enumerate(ids) for ngram in each], np.intp).reshape(-1, 2)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        self._rows = np.ascontiguousarray(pairs[:, 1])
        self._starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
        self._lengths = np.array(lengths, np.intp)

    def value(self, rows: Rows) -> float:
        total = int(self._lengths[rows].sum())
        if not total:
            return float("nan")
        chosen = np.zeros(len(self._lengths), bool)
        chosen[rows] = True
        return 100 * int(np.logical_or.reduceat(chosen[self._rows], self._starts).sum()) / total
