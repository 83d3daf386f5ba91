"""ROUGE-L (Lin 2004): the longest common subsequence of a reply and its reference, as the package rouge-score has it.

With r words of the reference, c words of the reply and l words in their longest common subsequence, the recall is
l / r, the precision l / c, and the value their harmonic mean. (Lin's formula has a weight of recall, which is 1 here,
as in rouge-score and most papers.) The value of a set is the mean over its replies, x100.

Words are rouge-score's: lower case, and whatever is not an ASCII letter or digit separates them, so that punctuation
counts for nothing and "don't" is two words. They are not stemmed, as by default there.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies

_WORD = re.compile("[a-z0-9]+")


class RougeL(Metric):
    """The mean F1 of ROUGE-L over all replies, x100."""

    name = "ROUGE-L"
    group = "overlap"

    def settings(self) -> Mapping[str, Setting]:
        """Return tokens, case, stemming and what is averaged."""
        return {"tokens": "rouge-score", "case": "lower", "stem": "none", "value": "mean F1"}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: every item needs a reference."""
        return replies.without_reference()

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the F1 of every reply."""
        check_same_items(systems)
        pairs = [(item.text, item.reference or "") for system in systems for item in system.items]
        return MeanOfReplies(np.array([100 * _f1(_words(reply), _words(reference)) for reply, reference in pairs]))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _f1(reply: Sequence[str], reference: Sequence[str]) -> float:
    if not reply or not reference:
        return 0.0
    common = common_subsequence(reply, reference)
    precision, recall = common / len(reply), common / len(reference)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table of lengths is kept as the bits of one integer, whose zeros mark where the length rises
    (Hyyrö 2004). A row then takes a few operations, whatever its length.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        if same := row & places.get(word, 0):
            row = (row + same | row - same) & every
    return len(first) - row.bit_count()
