"""The n-grams of texts as numbers, counted once for all metrics that need them.

Time and memory are linear in the number of words, but for the sorting of numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.replies import Replies
from localemp.metrics.tokens import words

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ngrams:
    """All n-grams of one order in some texts, in the order of the texts; none spans two texts.

    Attributes:
        ids: Which n-gram each one is, numbered from 0.
        rows: The text that each one is in, numbered from 0.
        texts: The number of texts.
    """

    ids: Numbers
    rows: Numbers
    texts: int

    @property
    def totals(self) -> Numbers:
        """The number of n-grams of each text."""
        return np.bincount(self.rows, minlength=self.texts)

    def counts(self) -> tuple[Numbers, Numbers, Numbers]:
        """Return the different n-grams of each text: ids, rows, and how often it occurs there; by id, then row."""
        pairs, counts = np.unique(self.ids * self.texts + self.rows, return_counts=True)
        return pairs // max(self.texts, 1), pairs % max(self.texts, 1), counts


def ngrams_of(systems: Sequence[Replies], order: int) -> Ngrams:
    """Return the n-grams of all replies, row by row as in `Statistics`."""
    return ngrams(tuple(text for system in systems for text in system.texts), order)


# Four orders, for the replies of a pair of systems and those of one.
@lru_cache(maxsize=8)
def ngrams(texts: tuple[str, ...], order: int) -> Ngrams:
    """Return the n-grams of texts.

    Args:
        texts: The texts; their words are those of `words`, case kept.
        order: n, from 1.
    """
    return unigrams(map(words, texts)) if order == 1 else one_longer(ngrams(texts, order - 1))


def unigrams(texts: Iterable[Sequence[str]]) -> Ngrams:
    """Return the unigrams of texts that are given as words."""
    known: dict[str, int] = {}
    ids: list[int] = []
    lengths = []
    for text in texts:
        ids += [known.setdefault(word, len(known)) for word in text]
        lengths.append(len(text))
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), np.array(lengths, np.int64))
    return Ngrams(np.array(ids, np.int64), rows, len(lengths))


def one_longer(shorter: Ngrams) -> Ngrams:
    """Return the n-grams of the texts of (n-1)-grams: two that follow each other in a text are one."""
    within = shorter.rows[1:] == shorter.rows[:-1]
    first, second = shorter.ids[:-1][within], shorter.ids[1:][within]
    _, ids = np.unique(first * (len(shorter.ids) + 1) + second, return_inverse=True)
    return Ngrams(ids, shorter.rows[1:][within], shorter.texts)


def clear_ngram_cache() -> None:
    """Empty the cache, as in a new process: for measurements."""
    ngrams.cache_clear()
