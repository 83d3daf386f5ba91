"""EAD, expectation-adjusted distinct (Liu et al. 2022): distinct n-grams over the number to be expected.

Distinct-n falls with the length of the replies. EAD divides the distinct n-grams, N, not by all n-grams, C, but by the
number of distinct ones that C draws from V equally likely ones have: EAD = N / (V * (1 - ((V - 1) / V) ** C)).

Liu et al. define it for words. For longer n-grams V stays the size of a vocabulary of words, as in Kirk et al. (2024).
There are more bigrams than that, so EAD-2 of varied replies can be above 100, and it depends on their number.
"""

from collections.abc import Mapping, Sequence
from math import expm1, inf, log1p

from localemp.metrics.base import Metric, Setting, Statistics
from localemp.metrics.distinct import DistinctNgrams
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS

VOCABULARY = 30522  # V: the size of BERT's vocabulary


class ExpectationAdjustedDistinct(Metric):
    """Distinct n-grams of all replies over their expected number, x100; n-grams do not span replies.

    Args:
        order: n.
    """

    group = "diversity"
    depends_on_number = True
    bounds = (0.0, inf)

    def __init__(self, order: int) -> None:
        self.name, self.order = f"EAD-{order}", order

    def settings(self) -> Mapping[str, Setting]:
        """Return order, size of the vocabulary and tokens."""
        return {"order": self.order, "V": VOCABULARY, **TOKEN_SETTINGS, "case": "kept"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the distinct n-grams of every reply and its number of n-grams."""
        return _Adjusted(systems, self.order)


class _Adjusted(DistinctNgrams):
    def divisor(self, total: int) -> float:
        """Return how many distinct n-grams are to be expected of `total`."""
        return -VOCABULARY * expm1(total * log1p(-1 / VOCABULARY))
