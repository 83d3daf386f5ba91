"""Length: the mean number of words in a reply.

Neither direction is better, but many metrics, and judges, depend on it.
"""

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, is_word, words


class Length(Metric):
    """Mean number of words in a reply. Punctuation marks do not count; "don't" is two words, as in all metrics."""

    name = "Length"
    group = "form"
    bounds = (0.0, inf)
    higher_is_better = None

    def settings(self) -> Mapping[str, Setting]:
        """Return what counts as a word."""
        return {"unit": "words", **TOKEN_SETTINGS, "punctuation": "not counted"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the number of words of every reply."""
        check_same_items(systems)
        counts = [sum(map(is_word, words(text))) for system in systems for text in system.texts]
        return MeanOfReplies(np.array(counts, np.float64))
