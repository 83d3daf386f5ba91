"""Self-BLEU (Zhu et al. 2018): the mean BLEU of every reply against all other replies of its system.

BLEU is nltk's `sentence_bleu` with smoothing method 1, as in Zhu et al.'s code. That compares every pair of replies.
Here each n-gram needs only its two highest counts in single replies: one of them belongs to another reply. So the time
grows with the number of words, and the values are the same.

What a reply is compared with stays fixed when replies are drawn again (bootstrap, randomisation): in a sample a reply
would meet its own copies.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.ngrams import Ngrams, Numbers, ngrams
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS

ORDER = 4
_EPSILON = 0.1  # takes the place of no match; nltk's default


class SelfBleu(Metric):
    """Mean BLEU of each reply against all others, x100: the lower, the more diverse.

    It rises with the number of replies, so two values are comparable only on the same items.
    """

    name = "Self-BLEU"
    group = "diversity"
    higher_is_better = False
    depends_on_number = True

    def settings(self) -> Mapping[str, Setting]:
        """Return order, references, smoothing and tokens."""
        smoothing: dict[str, Setting] = {"smooth": "nltk method1", "epsilon": _EPSILON}
        return {"order": ORDER, "references": "all other replies", **smoothing, **TOKEN_SETTINGS, "case": "kept"}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: a single reply has nothing to be compared with."""
        return "there is only one reply" if len(replies) == 1 else ""

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the BLEU of every reply."""
        check_same_items(systems)
        return MeanOfReplies(np.concatenate([100 * bleu_against_others(system.texts) for system in systems]))


def bleu_against_others(texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the smoothed sentence BLEU of each of at least two texts with all others as references, 0 to 1."""
    orders = [ngrams(texts, order) for order in range(1, ORDER + 1)]
    matches = [_matches(found) for found in orders]
    logs = np.zeros(len(texts))
    for found, matched in zip(orders, matches, strict=True):
        logs += np.log(np.where(matched, matched, _EPSILON) / np.maximum(found.totals, 1)) / ORDER
    return np.where(matches[0] == 0, 0.0, _brevity_penalties(orders[0].totals) * np.exp(logs))


def _matches(found: Ngrams) -> NDArray[np.float64]:
    """How many n-grams of each text match: each as often as it occurs in the other text that has it most often."""
    ids, rows, counts = found.counts()
    order = np.lexsort((counts, ids))
    ids, rows, counts = ids[order], rows[order], counts[order]
    last = np.diff(ids, append=-1) != 0  # the text with the highest count; in all others every occurrence matches
    following = np.diff(ids, prepend=-1) == 0
    second = np.where(following, np.roll(counts, 1), 0)
    return np.bincount(rows, np.where(last, second, counts), minlength=found.texts).astype(np.float64)


def _brevity_penalties(lengths: Numbers) -> NDArray[np.float64]:
    """BLEU's brevity penalty for each text, by the closest length of another; of two as close, the shorter."""
    known, places, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    shorter = np.concatenate([[-np.inf], known[:-1]])
    longer = np.concatenate([known[1:], [np.inf]])
    closest = np.where(known - shorter <= longer - known, shorter, longer)
    closest = np.where(counts > 1, known, closest)
    penalties = np.exp(np.minimum(0, 1 - closest / np.maximum(known, 1)))
    return np.where(known > 0, penalties, 0.0)[places]
