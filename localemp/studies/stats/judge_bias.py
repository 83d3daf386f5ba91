"""What moves a judge's choices beside quality: the place of a reply, its length, and whether the judge wrote it.

One logistic regression for all of it, so that each is measured with the others held equal:

    logit P(reply shown first) = position + length * log2(words of the first / words of the second)
                                 + own * (1 if the judge's own model is first, -1 if it is second, else 0)
                                 + quality * (people's preference for the first, -1 to 1)

`position` is the intercept: with people's preference and all else equal, a fair judge has 0. `length` is per doubling
of the words. `quality` is there where people answered every choice. `own` needs it: without it, a model that is
better looks like one that its judge prefers. People's answers are few and noisy, so what they miss of quality remains
in `length` and `own`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
from localemp.studies.stats.judged import NO_PEOPLE, PairChoice
from localemp.studies.stats.logistic import SEPARATED, fit, identified, independent, logistic

NO_CHOICE = "it chose nothing"
CONSTANT = "all of its answers are the same"
SAME_LENGTH = "the two replies always have the same length"
NO_OWN = "none of the pairs has a reply of its own model and one of another"
OWN_NEEDS_PEOPLE = "needs people's answers: without them a better model looks like a preferred one"
PEOPLE_TIE = "people prefer neither reply of any pair"
ENTANGLED = "cannot be told from the others here: it varies only together with them"


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
        first: Mean share for the reply shown first, nothing held equal.
        position: Of being shown first.
        length: Of twice as many words.
        own: Of being the judge's own model's reply.
        quality: Of being preferred by all people.
    """

    choices: int
    dialogues: int
    first: Estimate
    position: Effect
    length: Effect
    own: Effect
    quality: Effect

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        effects = {name: getattr(self, name).as_dict() for name in ("first", "position", "length", "own", "quality")}
        return {"choices": self.choices, "dialogues": self.dialogues, **effects}


def judge_bias(choices: Sequence[PairChoice], own_systems: Collection[str], bootstrap: Bootstrap) -> JudgeBias:
    """Measure what moves a judge's choices.

    Args:
        choices: Of one judge; each shown order for itself.
        own_systems: The systems whose replies the judge's own model wrote.
        bootstrap: How the intervals are drawn.
    """
    dialogues, shares = [choice.dialogue for choice in choices], np.array([choice.share for choice in choices])
    terms = _terms(choices, own_systems)
    columns = {name: term for name, term in terms.items() if not isinstance(term, str)}
    estimates = {name: Estimate(None, reason=term) for name, term in terms.items() if isinstance(term, str)}
    if reason := NO_CHOICE if not choices else CONSTANT if np.ptp(shares) == 0 else "":
        estimates |= dict.fromkeys(columns, Estimate(None, reason=reason))
        first = Estimate(float(shares[0]) if choices else None, reason=reason)
    else:
        estimates |= _fitted(columns, shares, dialogues, bootstrap)
        first = bootstrap.estimate(
            float(shares.mean()), lambda weights: ratio(weights, shares, np.ones_like(shares)), dialogues
        )
    return JudgeBias(
        choices=len(choices),
        dialogues=len(set(dialogues)),
        first=first,
        position=Effect.of(estimates["position"]),
        length=Effect.of(estimates["length"]),
        own=Effect.of(estimates["own"]),
        quality=Effect.of(estimates["quality"]),
    )


def doublings(choices: Sequence[PairChoice]) -> Numbers:
    """Return the base-2 logarithm of the first reply's words over the second's; an empty reply counts as one word."""
    lengths = np.array([(choice.first_length, choice.second_length) for choice in choices], dtype=float)
    first, second = np.log2(np.maximum(lengths, 1)).reshape(-1, 2).T
    return np.asarray(first - second, dtype=float)


def _terms(choices: Sequence[PairChoice], own_systems: Collection[str]) -> dict[str, Numbers | str]:
    """Return the column of each term, or why it has none."""
    known = [choice.people for choice in choices if choice.people is not None]
    length = doublings(choices)
    own = np.array([(each.first in own_systems) - (each.second in own_systems) for each in choices], dtype=float)
    quality = 2 * np.array(known) - 1
    answered = len(known) == len(choices)
    return {
        "position": np.ones(len(choices)),
        "length": length if length.any() else SAME_LENGTH,
        "own": NO_OWN if not own.any() else own if answered else OWN_NEEDS_PEOPLE,
        "quality": NO_PEOPLE if not answered else quality if quality.any() else PEOPLE_TIE,
    }


def _fitted(
    columns: dict[str, Numbers], shares: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    names, everything = list(columns), np.stack(list(columns.values()), axis=1)
    kept = independent(everything)
    design = everything[:, kept]
    (point,) = fit(design, shares, np.ones((1, len(shares))))
    if not np.isfinite(point).all():
        return dict.fromkeys(names, Estimate(None, reason=SEPARATED))
    found = bootstrap.estimates(point.tolist(), lambda weights: fit(design, shares, weights, point), dialogues)
    estimates = {names[column]: estimate for column, estimate in zip(kept, found, strict=True)}
    alone = zip(names, identified(everything), strict=True)
    return estimates | {name: Estimate(None, reason=ENTANGLED) for name, is_alone in alone if not is_alone}
