"""Question rate: the share of replies that ask something. Neither direction is better."""

from collections.abc import Mapping, Sequence

import numpy as np

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies

# Also the full-width and the Arabic one.
_MARKS = frozenset("?\uff1f\u061f")


class QuestionRate(Metric):
    """Share of replies that ask a question, x100: those with a question mark anywhere in them.

    A question without the mark is not seen, and how many a reply asks does not matter.
    """

    name = "Question rate"
    group = "form"
    higher_is_better = None

    def settings(self) -> Mapping[str, Setting]:
        """Return the rule."""
        return {"rule": "has a question mark"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return whether every reply asks."""
        check_same_items(systems)
        asks = [not _MARKS.isdisjoint(text) for system in systems for text in system.texts]
        return MeanOfReplies(100 * np.array(asks, np.float64))
