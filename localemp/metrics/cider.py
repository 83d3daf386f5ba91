"""CIDEr-D (Vedantam et al. 2015): n-grams in common with the reference, rare ones counting more.

A text is, for each n from 1 to 4, a vector of its n-grams, weighted by tf-idf. The value of a reply is the mean over n
of the cosine of its vector and the reference's, where no weight of the reply counts for more than the reference's (that
keeps a repeated word from paying), times exp(-d^2 / 72) for texts that differ by d words, times 10. It is computed as
by the authors' program, which pycocoevalcap and nlg-eval have copies of; the table has its value x100, as their papers
do.

The idf is log(N / df), where df is the number of the N references that have the n-gram, and counts as 1 if none has it.
The references are those of all items that are scored, one for each item. Resampling draws values of single replies,
whose idf stays that of all items.

Words are those of `tokens.py` in lower case, without those that have no letter or digit: the authors' program removes
punctuation, too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.ngrams import Ngrams, one_longer, unigrams
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, is_word, words

ORDER, SIGMA, SCALE = 4, 6.0, 10.0


class Cider(Metric):
    """The mean CIDEr-D over all replies, x100: 1000 for replies that are their references."""

    name = "CIDEr"
    group = "overlap"
    bounds = (0.0, 100 * SCALE)
    depends_on_number = True  # the idf is that of these references

    def settings(self) -> Mapping[str, Setting]:
        """Return variant, order, sigma, factor, where document frequencies are from, and tokens."""
        variant = {"variant": "CIDEr-D", "df": "these references"}
        numbers = {"order": ORDER, "sigma": SIGMA, "factor": SCALE}
        return {**variant, **numbers, **TOKEN_SETTINGS, "case": "lower", "punctuation": "left out"}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: every item needs a reference."""
        return replies.without_reference()

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the value of every reply."""
        check_same_items(systems)
        return MeanOfReplies(np.concatenate([100 * _of_system(system) for system in systems]))


def _of_system(replies: Replies) -> NDArray[np.float64]:
    references = (reference or "" for reference in replies.references)
    return cider(list(map(lower_words, replies.texts)), list(map(lower_words, references)))


def lower_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation marks."""
    return [word.lower() for word in words(text) if is_word(word)]


def cider(replies: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the CIDEr-D, 0 to 10, of each reply; document frequencies are those of all references.

    Args:
        replies: The words of each reply.
        references: The words of the reference of each reply.
    """
    items = len(replies)
    found = unigrams([*replies, *references])
    # As in the authors' program, lengths are numbers of bigrams.
    lengths = np.maximum(found.totals - 1, 0)
    gaps = lengths[:items] - lengths[items:]
    cosines = _cosines(found, items)
    for _ in range(ORDER - 1):
        found = one_longer(found)
        cosines += _cosines(found, items)
    values: NDArray[np.float64] = SCALE / ORDER * cosines * np.exp(-(gaps**2) / (2 * SIGMA**2))
    return values


def _cosines(found: Ngrams, items: int) -> NDArray[np.float64]:
    """Return the clipped cosine of each reply (the first half of the texts) and its reference (the second half)."""
    ids, rows, counts = found.counts()
    of_reference = rows >= items
    frequency = np.bincount(ids[of_reference], minlength=int(ids.max(initial=0)) + 1)
    weights = counts * (np.log(items) - np.log(np.maximum(frequency, 1)))[ids]
    norms = np.sqrt(np.bincount(rows, weights**2, minlength=2 * items))
    item = np.where(of_reference, rows - items, rows)
    places = item * len(frequency) + ids
    common, ours, theirs = np.intersect1d(
        places[~of_reference], places[of_reference], assume_unique=True, return_indices=True
    )
    replys, references = weights[~of_reference][ours], weights[of_reference][theirs]
    dots = np.bincount(common // len(frequency), np.minimum(replys, references) * references, minlength=items)
    lengths = norms[:items] * norms[items:]
    cosines = np.zeros(items)
    np.divide(dots, lengths, out=cosines, where=lengths > 0)
    return cosines
