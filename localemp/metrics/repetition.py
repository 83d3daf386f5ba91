"""Repetition inside single replies, by the two definitions of the field.

Repetition is seq-rep-4 of Welleck et al. (2020): the share of a reply's 4-grams that repeat an earlier one of its own,
1 - (distinct 4-grams / 4-grams), averaged over the replies. A reply of fewer than four words has none.

Loops is the share of replies that got stuck, after Holtzman et al. (2020): the reply ends in a phrase of at least two
words that stands there three times or more, one after another. The last one may be cut off, as by a limit of tokens.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.ngrams import Numbers, ngrams_of
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS

ORDER = 4
_SHORTEST_PHRASE, _TIMES = 2, 3


class Repetition(Metric):
    """Mean share of a reply's 4-grams that repeat one of its own, x100."""

    name = "Repetition"
    group = "form"
    higher_is_better = False

    def settings(self) -> Mapping[str, Setting]:
        """Return order and tokens."""
        return {"order": ORDER, **TOKEN_SETTINGS, "case": "kept"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the share of every reply."""
        check_same_items(systems)
        return MeanOfReplies(100 * repeated(systems))


class Loops(Metric):
    """Share of replies that end in a phrase said over and over, x100."""

    name = "Loops"
    group = "form"
    hidden = True
    higher_is_better = False

    def settings(self) -> Mapping[str, Setting]:
        """Return what a loop is, and the tokens."""
        return {"phrase": f"{_SHORTEST_PHRASE} words or more", "times": _TIMES, **TOKEN_SETTINGS, "case": "kept"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return whether every reply loops."""
        check_same_items(systems)
        found = ngrams_of(systems, 1)
        starts = np.concatenate([[0], np.cumsum(found.totals)])
        loops = np.zeros(found.texts, bool)
        for row in np.flatnonzero(repeated(systems)):  # a loop repeats its 4-grams, too
            loops[row] = ends_in_loop(found.ids[starts[row] : starts[row + 1]].tolist())
        return MeanOfReplies(100 * loops.astype(np.float64))


def repeated(systems: Sequence[Replies]) -> NDArray[np.float64]:
    """Return the share of each reply's 4-grams that repeat one of its own, 0 to 1."""
    found = ngrams_of(systems, ORDER)
    _, rows, _ = found.counts()
    distinct: Numbers = np.bincount(rows, minlength=found.texts)
    return 1 - np.where(found.totals > 0, distinct / np.maximum(found.totals, 1), 1.0)


def ends_in_loop(words: Sequence[int]) -> bool:
    """Return whether words end in a phrase of at least two, three times or more.

    Read from the end, the text agrees with itself one phrase further on, for the length of two phrases.
    """
    agreement = _agreement(words[::-1])
    return any(agreement[size] >= (_TIMES - 1) * size for size in range(_SHORTEST_PHRASE, len(words) // _TIMES + 1))


def _agreement(words: Sequence[int]) -> list[int]:
    """For every place how long the text from there is like its own beginning (the Z-function; linear in time)."""
    lengths = [0] * len(words)
    left = right = 0
    for place in range(1, len(words)):
        length = min(lengths[place - left], right - place) if place < right else 0
        while place + length < len(words) and words[length] == words[place + length]:
            length += 1
        lengths[place] = length
        if place + length > right:
            left, right = place, place + length
    return lengths
