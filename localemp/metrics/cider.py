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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, words

ORDER, SIGMA, SCALE = 4, 6.0, 10.0

Ids = NDArray[np.int64]


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
    return cider(list(map(content_words, replies.texts)), list(map(content_words, references)))


def content_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation marks."""
    return [word.lower() for word in words(text) if any(map(str.isalnum, word))]


def cider(replies: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the CIDEr-D, 0 to 10, of each reply; document frequencies are those of all references.

    Args:
        replies: The words of each reply.
        references: The words of the reference of each reply.
    """
    items = len(replies)
    texts = _Texts.of([*replies, *references])
    # As in the authors' program, lengths are numbers of bigrams.
    lengths = np.maximum(texts.lengths - 1, 0)
    gaps = lengths[:items] - lengths[items:]
    cosines = np.sum([_cosines(counts, items) for counts in texts.ngrams()], axis=0)
    values: NDArray[np.float64] = SCALE / ORDER * cosines * np.exp(-(gaps**2) / (2 * SIGMA**2))
    return values


@dataclass(frozen=True, slots=True)
class _Counts:
    """How often which n-gram is in which text: parallel arrays, ordered by text and then by n-gram."""

    text: Ids
    ngram: Ids
    count: Ids


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts one after another as numbers of words."""

    words: Ids
    text: Ids
    lengths: Ids

    @classmethod
    def of(cls, texts: Sequence[Iterable[str]]) -> "_Texts":
        known: dict[str, int] = {}
        numbers = [[known.setdefault(word, len(known)) for word in text] for text in texts]
        lengths = np.array([len(text) for text in numbers], np.int64)
        flat = np.array([number for text in numbers for number in text], np.int64)
        return cls(flat, np.repeat(np.arange(len(texts)), lengths), lengths)

    def ngrams(self) -> Iterator[_Counts]:
        """Count n-grams: first the words, then the bigrams, and so on."""
        starts = np.arange(len(self.words))
        left = np.repeat(np.cumsum(self.lengths), self.lengths) - starts  # words from here to the end of the text
        ngrams = self.words  # the number of the n-gram that starts at each of `starts`
        for order in range(1, ORDER + 1):
            if order > 1:
                longer = left[starts] >= order
                starts = starts[longer]
                # An n-gram is the one that is a word shorter, and its last word.
                pairs = ngrams[longer] * (len(self.words) + 1) + self.words[starts + order - 1]
                ngrams = np.unique(pairs, return_inverse=True)[1]
            places, counts = np.unique(self.text[starts] * (len(self.words) + 1) + ngrams, return_counts=True)
            yield _Counts(*np.divmod(places, len(self.words) + 1), counts)


def _cosines(counts: _Counts, items: int) -> NDArray[np.float64]:
    """Return the clipped cosine of each reply (the first half of the texts) and its reference (the second half)."""
    reference = counts.text >= items
    frequency = np.bincount(counts.ngram[reference], minlength=int(counts.ngram.max(initial=0)) + 1)
    weights = counts.count * (np.log(items) - np.log(np.maximum(frequency, 1)))[counts.ngram]
    norms = np.sqrt(np.bincount(counts.text, weights**2, minlength=2 * items))
    width = len(frequency)
    item = np.where(reference, counts.text - items, counts.text)
    places = item * width + counts.ngram
    common, ours, theirs = np.intersect1d(
        places[~reference], places[reference], assume_unique=True, return_indices=True
    )
    of_reply, of_reference = weights[~reference][ours], weights[reference][theirs]
    dots = np.bincount(common // width, np.minimum(of_reply, of_reference) * of_reference, minlength=items)
    lengths = norms[:items] * norms[items:]
    cosines = np.zeros(items)
    np.divide(dots, lengths, out=cosines, where=lengths > 0)
    return cosines
