"""What moves a judge's choices beside quality: the place of a reply, its length, and whether the judge wrote it.

One logistic regression for all of it, so that each is measured with the others held equal:

    logit P(reply shown first) = position + length * log2(words of the first / words of the second)
                                 + own * (1 if the judge's own model is first, -1 if it is second, else 0)
                                 + quality * (people's preference for the first, -1 to 1)
                                 + standing * (people's overall preference for the first's system, -1 to 1)

`position` is the intercept: with people's preference and all else equal, a fair judge has 0. `length` is per doubling
of the words. `quality` is there where people answered every choice. `own` needs it: without it, a model that is
better looks like one that its judge prefers. `standing` holds equal what they think of the two systems over all
dialogues (`standing.py` has the reason), so that `own` is how far the judge's own model stands out from what the
standing of the others predicts. That takes three systems; with two it is left out, and a note says so. What people
miss of single replies may be in `length`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.metrics.pairing import FEW_ITEMS
from localemp.studies.stats.intervals import FEW_DIALOGUES, Bootstrap, Estimate, Numbers
from localemp.studies.stats.judged import NO_PEOPLE, PairChoice
from localemp.studies.stats.regression import CONSTANT, NO_ANSWER, estimated, fit_logistic, logistic
from localemp.studies.stats.standing import UNSEEN, hold_standing

SAME_LENGTH = "the two replies always have the same length"
NO_OWN = "none of the pairs has a reply of its own model and one of another"
OWN_NEEDS_PEOPLE = "needs people's answers: without them a better model looks like a preferred one"
PEOPLE_TIE = "people prefer neither reply of any pair"
_FEWEST = 10  # answers of the rarer kind for each term


@dataclass(frozen=True, slots=True)
class Effect:
    """One term of the model.

    Attributes:
        log_odds: Its coefficient.
        share: The same as the share of choices, all else equal: for the reply shown first, for one twice as long, for
            one of its own model, for one that all people prefer. Without an effect it is 0.5.
    """

    log_odds: Estimate
    share: Estimate

    @classmethod
    def of(cls, log_odds: Estimate) -> "Effect":
        """Express a coefficient in both units."""
        return cls(log_odds, log_odds.mapped(logistic))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {"log_odds": self.log_odds.as_dict(), "share": self.share.as_dict()}


@dataclass(frozen=True, slots=True)
class JudgeBias:
    """The bias of one judge.

    Attributes:
        choices: How many, each shown order for itself.
        dialogues: That they are of.
        rarer: How many of them are for the reply shown first, or for the second if these are fewer.
        first: Mean share for the reply shown first, nothing held equal.
        position: Of being shown first.
        length: Of twice as many words.
        own: Of being the judge's own model's reply.
        quality: Of being preferred by all people.
        standing: Whether what people think of the systems overall is held equal.
    """

    choices: int
    dialogues: int
    rarer: float
    first: Estimate
    position: Effect
    length: Effect
    own: Effect
    quality: Effect
    standing: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        effects = {name: getattr(self, name).as_dict() for name in ("first", "position", "length", "own", "quality")}
        told = {name: getattr(self, name) for name in ("choices", "dialogues", "rarer", "standing")}
        return {**told, **effects, "notes": self.notes}

    @property
    def notes(self) -> list[str]:
        """What makes the figures uncertain beyond their intervals."""
        notes = []
        terms = sum(getattr(self, name).log_odds.value is not None for name in ("position", "length", "own", "quality"))
        if self.dialogues < FEW_ITEMS:
            notes.append(FEW_DIALOGUES)
        if terms and self.rarer < _FEWEST * terms:
            notes.append(f"fewer than {_FEWEST} of the rarer choice for each term: the effects may look too large")
        if self.own.log_odds.value is not None and not self.standing:
            notes.append(UNSEEN)
        return notes


def judge_bias(choices: Sequence[PairChoice], own_systems: Collection[str], bootstrap: Bootstrap) -> JudgeBias:
    """Measure what moves a judge's choices.

    Args:
        choices: Of one judge; each shown order for itself.
        own_systems: The systems whose replies the judge's own model wrote.
        bootstrap: How the intervals are drawn.
    """
    dialogues, shares = [choice.dialogue for choice in choices], np.array([choice.share for choice in choices])
    terms, fit, standing = hold_standing(_terms(choices, own_systems), fit_logistic, _sides(choices))
    found = estimated(terms, shares, fit, dialogues, bootstrap)
    return JudgeBias(
        choices=len(choices),
        dialogues=len(set(dialogues)),
        rarer=float(min(shares.sum(), (1 - shares).sum())),
        first=_first(shares, dialogues, bootstrap),
        position=Effect.of(found["position"]),
        length=Effect.of(found["length"]),
        own=Effect.of(found["own"]),
        quality=Effect.of(found["quality"]),
        standing=standing,
    )


def doublings(choices: Sequence[PairChoice]) -> Numbers:
    """Return the base-2 logarithm of the first reply's words over the second's; an empty reply counts as one word."""
    lengths = np.array([(choice.first_length, choice.second_length) for choice in choices], dtype=float)
    first, second = np.log2(np.maximum(lengths, 1)).reshape(-1, 2).T
    return np.asarray(first - second, dtype=float)


def _terms(choices: Sequence[PairChoice], own_systems: Collection[str]) -> dict[str, Numbers | str]:
    """Return the column of each term, or why it has none."""
    length = doublings(choices)
    quality = np.array([2 * choice.people - 1 for choice in choices if choice.people is not None])
    own = np.array([(each.first in own_systems) - (each.second in own_systems) for each in choices], dtype=float)
    terms: dict[str, Numbers | str] = {
        "position": np.ones(len(choices)),
        "length": length if length.any() else SAME_LENGTH,
        "own": own if own.any() else NO_OWN,
        "quality": quality if quality.any() else PEOPLE_TIE,
    }
    if len(quality) < len(choices):
        terms |= {"own": OWN_NEEDS_PEOPLE if own.any() else NO_OWN, "quality": NO_PEOPLE}
    return terms


def _sides(choices: Sequence[PairChoice]) -> Numbers:
    """Return 1 where a system is first, -1 where it is second: one row a choice, one column a system."""
    systems = sorted({system for choice in choices for system in (choice.first, choice.second)})
    return np.array(
        [[(choice.first == system) - (choice.second == system) for system in systems] for choice in choices],
        dtype=float,
    ).reshape(len(choices), len(systems))


def _first(shares: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    if not len(shares):
        return Estimate(None, reason=NO_ANSWER)
    if np.ptp(shares) == 0:
        return Estimate(float(shares[0]), reason=CONSTANT)
    return bootstrap.mean(shares, dialogues)
