"""Win rates as they would be if the two replies were equally long, as AlpacaEval 2 has them (Dubois et al. 2024).

For each pair of systems one logistic regression of the judge's choices:

    logit P(system) = strength + length * tanh(difference in words / its standard deviation)
                      + position * (1 if shown first, -1 if second)

The controlled win rate is what the model predicts at a difference of 0, averaged over both orders. Where the length
has no effect and both orders were shown, it is the raw win rate.

Different from AlpacaEval's: lengths are words, not characters; the place is in the model, since pairs are shown in
both orders (theirs are shown in a random one); there is no term for an instruction's difficulty, which they estimate
from many models' outputs on their instructions; no penalty (L1 there) and no added choices of a deliberately verbose
and terse baseline. So the numbers are not AlpacaEval's, and an exaggerated length can move them more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
from localemp.studies.stats.judged import PairChoice
from localemp.studies.stats.regression import SEPARATED, fit_logistic, identified, independent, logistic

NO_PAIR = "it was compared with none of them"
SAME_DIFFERENCE = "the difference in length is the same in all choices, so its effect cannot be told from the system's"
_STRENGTH, _LENGTH, _POSITION = range(3)


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often a system wins.

    Attributes:
        system: Its name.
        against: The systems that it was compared with; the rates are means over them.
        choices: How many, each shown order for itself.
        dialogues: That they are of.
        raw: Mean share of the choices.
        controlled: The same at equal lengths.
        words: Mean difference in words, the system's less the other's.
    """

    system: str
    against: tuple[str, ...]
    choices: int
    dialogues: int
    raw: Estimate
    controlled: Estimate
    words: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("system", "choices", "dialogues", "words")}
        rates = {"raw": self.raw.as_dict(), "controlled": self.controlled.as_dict()}
        return {**told, "against": list(self.against), **rates}


def length_controlled_win_rates(
    choices: Sequence[PairChoice], bootstrap: Bootstrap, baseline: str | None = None
) -> list[WinRate]:
    """Compute the win rates of all systems, in the order of their first choice.

    Args:
        choices: Of one judge; each shown order for itself.
        bootstrap: How the intervals are drawn.
        baseline: Against it alone; None is against all others, each counting as much.
    """
    systems = dict.fromkeys(system for choice in choices for system in (choice.first, choice.second))
    return [_win_rate(system, choices, bootstrap, baseline) for system in systems if system != baseline]


@dataclass(frozen=True)
class _Pair:
    """The choices between a system and another, one row each.

    Attributes:
        rows: Their places among all choices of the system.
        shares: For the system.
        design: The columns of the model: strength, length, position; those without variation are left out.
        kept: Which of the three these are.
        reason: Why there is no model.
    """

    rows: NDArray[np.intp]
    shares: Numbers
    design: Numbers
    kept: tuple[int, ...]
    reason: str = ""

    @classmethod
    def of(cls, system: str, rows: NDArray[np.intp], choices: Sequence[PairChoice]) -> "_Pair":
        ahead = np.array([choice.first == system for choice in choices])
        shares = np.array([choice.share for choice in choices])
        shares = np.where(ahead, shares, 1 - shares)
        longer = np.array([_longer(choice, system) for choice in choices])
        spread = longer.std(ddof=1) if len(longer) > 1 else 0.0
        length = np.tanh(longer / spread) if spread else np.sign(longer)
        design = np.stack([np.ones(len(choices)), length, np.where(ahead, 1.0, -1.0)], axis=1)
        kept = independent(design)
        reason = "" if not length.any() or identified(design)[_LENGTH] else SAME_DIFFERENCE
        if not reason and not np.isfinite(fit_logistic(design[:, kept], shares, np.ones((1, len(shares))))).all():
            reason = SEPARATED
        return cls(rows, shares, design[:, kept], tuple(kept), reason)

    def raw(self, weights: Numbers) -> Numbers:
        """Return the win rate of samples."""
        return ratio(weights[:, self.rows], self.shares, np.ones_like(self.shares))

    def controlled(self, weights: Numbers) -> Numbers:
        """Return the win rate of samples at a length difference of 0, averaged over both orders."""
        found = dict(zip(self.kept, fit_logistic(self.design, self.shares, weights[:, self.rows]).T, strict=True))
        strength, place = found[_STRENGTH], found.get(_POSITION, 0.0)
        return (logistic(strength + place) + logistic(strength - place)) / 2


def _win_rate(system: str, choices: Sequence[PairChoice], bootstrap: Bootstrap, baseline: str | None) -> WinRate:
    chosen = [
        choice
        for choice in choices
        if system in (choice.first, choice.second) and baseline in (None, choice.first, choice.second)
    ]
    others = np.array([choice.second if choice.first == system else choice.first for choice in chosen])
    against = tuple(dict.fromkeys(others.tolist()))
    if not chosen:
        none = Estimate(None, reason=NO_PAIR)
        return WinRate(system, (), 0, 0, none, none, None)
    places = {other: np.flatnonzero(others == other) for other in against}
    pairs = [_Pair.of(system, rows, [chosen[row] for row in rows]) for rows in places.values()]
    dialogues = [choice.dialogue for choice in chosen]

    def measured(figure: Callable[[_Pair, Numbers], Numbers]) -> Estimate:
        def mean(weights: Numbers) -> Numbers:
            return np.asarray(np.mean([figure(pair, weights) for pair in pairs], axis=0), dtype=float)

        (value,) = mean(np.ones((1, len(chosen))))
        return bootstrap.estimate(float(value), mean, dialogues)

    without: dict[str, list[str]] = {}
    for other, pair in zip(against, pairs, strict=True):
        if pair.reason:
            without.setdefault(pair.reason, []).append(other)
    return WinRate(
        system=system,
        against=against,
        choices=len(chosen),
        dialogues=len(set(dialogues)),
        raw=measured(_Pair.raw),
        controlled=measured(_Pair.controlled) if not without else Estimate(None, reason=_told(without)),
        words=float(np.mean([_longer(choice, system) for choice in chosen])),
    )


def _told(without: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"against {', '.join(others)}: {reason}" for reason, others in without.items())


def _longer(choice: PairChoice, system: str) -> float:
    longer = choice.first_length - choice.second_length
    return longer if choice.first == system else -longer
