"""BLEU (Papineni et al. 2002) as in the paper: cumulative, corpus-level, unsmoothed, against raw references.

sacrebleu counts and computes; texts are tokenised here, since the paper's tokens are nltk's. sacrebleu's signature
leaves out the n-gram order, ours includes it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from localemp.metrics.base import Metric, Rows, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, words

# Always counted up to this order, so that B-2 and B-4 share their counts.
_HIGHEST = 4
_13A = Tokenizer13a()

# From a text to tokens joined by spaces; no token of nltk's contains a space.
_VIEWS: dict[str, Callable[[str], str]] = {
    "": lambda text: " ".join(words(text)),
    "lower": lambda text: " ".join(words(text)).lower(),
    "13a": lambda text: str(_13A(text.rstrip())),
}
_SETTINGS: dict[str, dict[str, Setting]] = {
    "": {**TOKEN_SETTINGS, "case": "kept"},
    "lower": {**TOKEN_SETTINGS, "case": "lower"},
    "13a": {"tokens": "13a", "case": "kept"},
}


class Bleu(Metric):
    """Unsmoothed cumulative corpus BLEU against one raw reference, x100.

    Args:
        order: The longest n-grams: 2 for B-2, 4 for B-4.
        view: "" for nltk's tokens, as in the paper; "lower" for the same in lower case, the only fair choice for
            baselines with lower-cased output; "13a" for sacrebleu's default tokens.
    """

    def __init__(self, order: int, view: str = "") -> None:
        self.name = f"B-{order} {view}".strip()
        self.order, self.view, self.hidden = order, view, bool(view)

    def settings(self) -> Mapping[str, Setting]:
        """Return order, tokens, case, smoothing and sacrebleu's version."""
        return {"order": self.order, **_SETTINGS[self.view], "smooth": "none", "sacrebleu": version("sacrebleu")}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: every item needs a reference."""
        return replies.without_reference()

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return lengths, matching and total n-grams of every reply."""
        check_same_items(systems)
        items = [item for system in systems for item in system.items]
        counts = [_counts(item.text, item.reference or "", self.view) for item in items]
        return _Counts(np.array(counts, np.int64).reshape(-1, 2 + 2 * _HIGHEST), self.order)


class _Counts(Statistics):
    """Columns: length of the reply, of the reference, matching n-grams of each order, n-grams of each order."""

    def __init__(self, counts: NDArray[np.int64], order: int) -> None:
        self._counts, self._order = counts, order

    def value(self, rows: Rows) -> float:
        return self._bleu(self._counts[rows].sum(axis=0))

    def each(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return the BLEU of each single reply; None above bigrams, where it is 0 for nearly every reply."""
        return np.array([self._bleu(row) for row in self._counts[rows]]) if self._order <= 2 else None

    def _bleu(self, summed: NDArray[np.int64]) -> float:
        reply, reference, *ngrams = (int(number) for number in summed)
        correct, total = ngrams[: self._order], ngrams[_HIGHEST : _HIGHEST + self._order]
        score = BLEU.compute_bleu(correct, total, reply, reference, "none", max_ngram_order=self._order)
        return float(score.score)


def clear_count_cache() -> None:
    """Empty the cache, as in a new process: for measurements."""
    _counts.cache_clear()


@lru_cache(maxsize=1 << 16)
def _counts(reply: str, reference: str, view: str) -> tuple[int, ...]:
    """The counts of one reply; cached, since six metrics share them."""
    ours, length = extract_all_word_ngrams(_VIEWS[view](reply), 1, _HIGHEST)
    theirs, reference_length = extract_all_word_ngrams(_VIEWS[view](reference), 1, _HIGHEST)
    correct, total = [0] * _HIGHEST, [0] * _HIGHEST
    for ngram, count in ours.items():
        total[len(ngram) - 1] += count
        correct[len(ngram) - 1] += min(count, theirs.get(ngram, 0))
    return (length, reference_length, *correct, *total)
