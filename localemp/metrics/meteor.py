"""METEOR (Lavie and Agarwal 2007) as nltk computes it: words matched exactly, by stem, and by synonym of WordNet.

Each word of the reply is matched with at most one of the reference: first equal words, then words with the same stem,
then words of which one is in a synset of the other; among several, the last one of the reference. With m matches in
b blocks of neighbours, precision P = m / words of the reply and recall R = m / words of the reference,

    METEOR = (1 - 0.5 (b / m)^3) * P R / (0.9 P + 0.1 R)

The value of a set is the mean over its replies, x100. It equals that of nltk's `meteor_score` on the same words,
oddities included: what has no match after the second step goes into the third as a stem ("happi"), so that few words
have synonyms. METEOR 1.5 of its authors, in Java, has other weights and paraphrases; its values are not comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise

import numpy as np

from localemp.errors import LocalempError
from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.nltk_parts import PorterStemmer
from localemp.metrics.replies import Replies
from localemp.metrics.tokens import TOKEN_SETTINGS, words
from localemp.metrics.wordnet import WordNet
from localemp.utils.once import Once

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5

Place = tuple[int, int]  # of a word in the reply, and of its match in the reference


class Meteor(Metric):
    """The mean METEOR over all replies, x100.

    Args:
        load: Returns WordNet; called once, when it is needed.
    """

    name = "METEOR"
    group = "overlap"

    def __init__(self, load: Callable[[], WordNet]) -> None:
        self._wordnet = Once(load)  # a failure is not tried again for every system

    def settings(self) -> Mapping[str, Setting]:
        """Return tokens, stemmer, weights, and which WordNet it is.

        Raises:
            LocalempError: There is no WordNet.
        """
        wordnet = self._wordnet()
        weights = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
        synonyms = {"wordnet": wordnet.version, "wordnet_sha256": wordnet.sha256[:16]}
        return {**TOKEN_SETTINGS, "case": "lower", "stem": "nltk Porter", **weights, **synonyms}

    def settings_of(self, replies: Replies) -> Mapping[str, Setting]:
        """Return the settings; none for replies without a value, for which nothing is fetched."""
        return {} if self.missing(replies) else self.settings()

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: every item needs a reference, and METEOR needs WordNet."""
        if reason := replies.without_reference():
            return reason
        try:
            self._wordnet()
        except LocalempError as error:
            return error.with_hint
        return ""

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the value of every reply.

        Raises:
            LocalempError: There is no WordNet.
        """
        check_same_items(systems)
        synonyms = cache(self._wordnet().synonyms)
        pairs = [(item.text, item.reference or "") for system in systems for item in system.items]
        values = [100 * meteor(_words(reply), _words(reference), synonyms) for reply, reference in pairs]
        return MeanOfReplies(np.array(values, np.float64))


def _words(text: str) -> list[str]:
    return [word.lower() for word in words(text)]


_stem: Callable[[str], str] = cache(PorterStemmer().stem)


def meteor(reply: Sequence[str], reference: Sequence[str], synonyms: Callable[[str], frozenset[str]]) -> float:
    """Return the METEOR of one reply, 0 to 1.

    Args:
        reply: Its words in lower case.
        reference: The words of the reference in lower case.
        synonyms: Returns the synonyms of a word.
    """
    matches = _matches(reply, reference, synonyms)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(reply), len(matches) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    blocks = 1 + sum(after != (place + 1, match + 1) for (place, match), after in pairwise(matches))
    penalty: float = GAMMA * (blocks / len(matches)) ** BETA
    return (1 - penalty) * mean


def _matches(reply: Sequence[str], reference: Sequence[str], synonyms: Callable[[str], frozenset[str]]) -> list[Place]:
    ours, theirs = list(enumerate(reply)), list(enumerate(reference))
    found = _take_equal(ours, theirs)
    ours, theirs = ([(place, _stem(word)) for place, word in side] for side in (ours, theirs))
    found += _take_equal(ours, theirs)
    found += _take_synonyms(ours, theirs, synonyms)
    return sorted(found)


def _take_equal(ours: list[tuple[int, str]], theirs: list[tuple[int, str]]) -> list[Place]:
    """Take matches of equal words out of both lists, later words first."""
    places: dict[str, list[int]] = {}
    for place, word in theirs:
        places.setdefault(word, []).append(place)
    found = [(place, places[word].pop()) for place, word in reversed(ours) if places.get(word)]
    _take(found, ours, theirs)
    return found


def _take_synonyms(
    ours: list[tuple[int, str]], theirs: list[tuple[int, str]], synonyms: Callable[[str], frozenset[str]]
) -> list[Place]:
    """Return matches of synonyms, later words first; both lists have no equal words any more."""
    left = {word for _, word in theirs}
    found = []
    for place, word in reversed(ours):
        if left.isdisjoint(of_word := synonyms(word)):
            continue
        number = next((n for n in reversed(range(len(theirs))) if theirs[n][1] in of_word), None)
        if number is not None:
            found.append((place, theirs.pop(number)[0]))
    return found


def _take(found: Sequence[Place], ours: list[tuple[int, str]], theirs: list[tuple[int, str]]) -> None:
    if found:
        of_reply, of_reference = map(set, zip(*found, strict=True))
        ours[:] = [each for each in ours if each[0] not in of_reply]
        theirs[:] = [each for each in theirs if each[0] not in of_reference]
