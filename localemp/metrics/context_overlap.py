"""Context: how much of a reply's content was already said in its dialogue.

Qian et al. (2023, section 3.3.3) say after Li et al. (2022) that people's replies share almost no words with the
dialogue history, stopwords aside. This is the share of a reply's content words, those that are no stopwords, that occur
in the turns before it, averaged over the replies; a reply without content words has 0. "Context ref" is the same of
people's replies. A higher value is no better: a system far above people repeats what it was told.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.stopwords import STOPWORDS, STOPWORDS_VERSION
from localemp.metrics.tokens import TOKEN_SETTINGS, is_word, words


class ContextOverlap(Metric):
    """Mean share of a reply's content words that occur in its dialogue's context, x100.

    Args:
        of: "reply", or "reference" for people's replies.
    """

    group = "form"
    higher_is_better = None

    def __init__(self, of: str = "reply") -> None:
        self.of = of
        self.hidden = self._of_people = of == "reference"
        self.name = "Context ref" if self._of_people else "Context"

    def settings(self) -> Mapping[str, Setting]:
        """Return what is compared with the context, and how."""
        return {"of": self.of, **TOKEN_SETTINGS, "case": "lower", "stopwords": STOPWORDS_VERSION}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: every item needs a context, and for "Context ref" a reference."""
        without = sum(not any(map(str.strip, item.turns)) for item in replies.items)
        if without == len(replies):
            return "no contexts"
        if without:
            return f"{without:,} of {len(replies):,} dialogues have no context"
        return replies.without_reference() if self._of_people else ""

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the share of every reply."""
        check_same_items(systems)
        shares = [overlap(self._text(item), item.turns) for system in systems for item in system.items]
        return MeanOfReplies(100 * np.array(shares, np.float64))

    def _text(self, item: Reply) -> str:
        return (item.reference or "") if self._of_people else item.text


def overlap(text: str, turns: Sequence[str]) -> float:
    """Return the share of a text's content words that occur in the turns, 0 to 1; 0 of a text without any."""
    content = content_words(text)
    said = [_different(turn) for turn in turns]
    return sum(any(word in turn for turn in said) for word in content) / len(content) if content else 0.0


# Like the cache of words: references and contexts are the same for one system after another.
@lru_cache(maxsize=1 << 16)
def content_words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without stopwords and punctuation marks."""
    return tuple(word for word in map(str.lower, words(text)) if word not in STOPWORDS and is_word(word))


@lru_cache(maxsize=1 << 16)
def _different(text: str) -> frozenset[str]:
    return frozenset(content_words(text))


def clear_content_cache() -> None:
    """Empty the cache, as in a new process: for measurements."""
    for cached in (content_words, _different):
        cached.cache_clear()
