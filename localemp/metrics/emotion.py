"""Acc: the accuracy of the stage "feeling" of a run, or of a classifier, in naming the emotion (paper, section 4)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from localemp.dialogue import EMOTIONS
from localemp.metrics.base import Metric, Rows, Setting, Statistics, check_same_items
from localemp.metrics.replies import Replies
from localemp.utils.text import one_line

# Words of the same stem that name the same feeling. Words for its cause are included, synonyms are not.
VARIANTS: Mapping[str, str] = {
    "guilty": "guilt guiltily guiltiness",
    "caring": "care cares caringly",
    "lonely": "loneliness lonesome",
    "excited": "excitement exciting excitedly",
    "sad": "sadness sadly saddened saddening sadder",
    "hopeful": "hope hopes hoping hopefulness hopefully",
    "angry": "anger angrily angered",
    "joyful": "joy joyous joyfully joyfulness",
    "disappointed": "disappointment disappointing disappointedly",
    "faithful": "faith faithfulness faithfully",
    "content": "contentment contented contentedness",
    "annoyed": "annoyance annoying annoyingly",
    "terrified": "terror terrifying terrify",
    "nostalgic": "nostalgia nostalgically",
    "grateful": "gratitude gratefulness gratefully",
    "trusting": "trust trusts trusted trustful",
    "surprised": "surprise surprising surprisingly",
    "ashamed": "shame shameful",
    "impressed": "impressive impressing",
    "proud": "pride proudly",
    "furious": "fury furiously",
    "sentimental": "sentimentality sentimentally",
    "confident": "confidence confidently",
    "anxious": "anxiety anxiously anxiousness",
    "jealous": "jealousy jealously",
    "apprehensive": "apprehension apprehensively apprehensiveness",
    "embarrassed": "embarrassment embarrassing embarrassingly",
    "anticipating": "anticipation anticipate anticipates anticipated anticipatory",
    "disgusted": "disgust disgusting",
    "devastated": "devastation devastating",
    "prepared": "preparedness preparation preparing",
    "afraid": "",
}
NO_LABEL = "none"


def first_label(text: str | None, variants: bool = False) -> str | None:
    """Return the first of the 32 emotions in a text, at word boundaries, in any case.

    Args:
        text: A stage-1 reply, or a classifier's label; None if there is none.
        variants: Whether variants count: "anger" for angry.
    """
    pattern, labels = _pattern(variants)
    found = pattern.search(text or "")
    return labels[found[0].lower()] if found else None


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix of the emotions.

    Attributes:
        labels: The 32 emotions.
        columns: The 32 emotions, then `NO_LABEL`.
        counts: One row for each true emotion, one column for each named one.
    """

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    counts: NDArray[np.int64]


def confusion(replies: Replies, variants: bool = False) -> Confusion:
    """Return the confusion matrix; items without a true emotion are left out."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS) + 1), np.int64)
    true, named = _pairs([replies], variants)
    known = true >= 0
    np.add.at(counts, (true[known], named[known]), 1)
    return Confusion(EMOTIONS, (*EMOTIONS, NO_LABEL), counts)


class EmotionMetric(Metric):
    """A metric of named against true emotions, x100.

    Args:
        name: A key of `EMOTION_METRICS`: "Acc", "Acc variants", "Macro-F1" or "No label".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.hidden = name != "Acc"
        self.higher_is_better = name != "No label"
        self._variants = name == "Acc variants"

    def settings(self) -> Mapping[str, Setting]:
        """Return what counts as naming an emotion."""
        return {"labels": len(EMOTIONS), "named": "first", "case": "lower", "variants": self._variants}

    def missing(self, replies: Replies) -> str:
        """Return why there is no value: nothing names an emotion, or the true one is unknown."""
        if all(item.feeling is None for item in replies.items):
            return "nothing names the emotion (a stage called feeling does, and some files)"
        without = sum(item.emotion not in EMOTIONS for item in replies.items)
        others = sorted({item.emotion for item in replies.items if item.emotion} - {*EMOTIONS})
        if without == len(replies):
            named = f"the data's emotions are not of the {len(EMOTIONS)} that are scored: {one_line(', '.join(others))}"
            return named if others else "the data does not say the emotion"
        kind = "unknown, or none of those that are scored" if others else "not known"
        return f"of {without:,} of {len(replies):,} dialogues the emotion is {kind}" if without else ""

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the true and the named emotion of every item."""
        check_same_items(systems)
        return _Named(*_pairs(systems, self._variants), self.name)


class _Named(Statistics):
    def __init__(self, true: NDArray[np.intp], named: NDArray[np.intp], name: str) -> None:
        self._true, self._named, self._name = true, named, name

    def value(self, rows: Rows) -> float:
        if not len(rows):
            return float("nan")
        if self._name == "Macro-F1":
            return 100 * macro_f1(self._true[rows], self._named[rows])
        return float(self._each(rows).mean())

    def each(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return 100 or 0 for every item; None for Macro-F1."""
        return None if self._name == "Macro-F1" else self._each(rows)

    def _each(self, rows: Rows) -> NDArray[np.float64]:
        named = self._named[rows]
        yes = named == len(EMOTIONS) if self._name == "No label" else named == self._true[rows]
        return np.where(yes, 100.0, 0.0)


def macro_f1(true: NDArray[np.intp], named: NDArray[np.intp]) -> float:
    """Return the mean F1 (0 to 1) of the emotions that occur as true or named ones; "no label" has no F1."""
    size = len(EMOTIONS)
    both = np.bincount(true[true == named], minlength=size)[:size]
    either = np.bincount(true, minlength=size)[:size] + np.bincount(named, minlength=size + 1)[:size]
    return float((2 * both[either > 0] / either[either > 0]).mean())


EMOTION_METRICS = {name: partial(EmotionMetric, name) for name in ("Acc", "Acc variants", "Macro-F1", "No label")}


def _pairs(systems: Sequence[Replies], variants: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of true (-1: unknown) and named emotions (32: none), row by row."""
    number = {emotion: index for index, emotion in enumerate(EMOTIONS)}
    items = [item for system in systems for item in system.items]
    true = [number.get(item.emotion or "", -1) for item in items]
    named = [number.get(first_label(item.feeling, variants) or "", len(EMOTIONS)) for item in items]
    return np.array(true, np.intp), np.array(named, np.intp)


@cache
def _pattern(variants: bool) -> tuple[re.Pattern[str], dict[str, str]]:
    labels = {emotion: emotion for emotion in EMOTIONS}
    if variants:
        labels |= {word: emotion for emotion, each in VARIANTS.items() for word in each.split()}
    # An underscore is also a boundary: models write _sad_.
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(labels)})(?![^\W_])", re.IGNORECASE), labels
