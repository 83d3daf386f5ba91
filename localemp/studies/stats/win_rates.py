"""Win rates as they would be if the two replies were equally long, as AlpacaEval 2 has them (Dubois et al. 2024).

For each pair of systems one logistic regression of the judge's choices, its two orders averaged first:

    logit P(system) = strength + length * tanh(difference in words / its standard deviation)

The controlled win rate is what the model predicts at a difference of 0. Where the length has no effect it is the raw
win rate.

Different from AlpacaEval's: lengths are words, not characters; pairs are shown in both orders (theirs in a random
one); there is no term for an instruction's difficulty, which they estimate from many models' outputs on their
instructions; no penalty (L1 there) and no added choices of a deliberately verbose and terse baseline. So the numbers
are not AlpacaEval's, and an exaggerated length can move them more. If a pair was shown in one order alone, the
judge's preference for a place is in both rates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
from localemp.studies.stats.judged import PairChoice, both_orders
from localemp.studies.stats.regression import SEPARATED, climb, fit_logistic, logistic

SAME_DIFFERENCE = "the difference in length is the same in all choices, so its effect cannot be told from the system's"


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often a system wins.

    Attributes:
        system: Its name.
        against: The systems that it was compared with; the rates are means over them.
        choices: How many, the two orders of a pair as one.
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
    words: float

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("system", "choices", "dialogues", "words")}
        rates = {"raw": self.raw.as_dict(), "controlled": self.controlled.as_dict()}
        return {**told, "against": list(self.against), **rates}


def length_controlled_win_rates(choices: Sequence[PairChoice], bootstrap: Bootstrap) -> list[WinRate]:
    """Compute the win rates of all systems against all others, each counting as much; in the order of first choices.

    Args:
        choices: Of one judge; each shown order for itself.
        bootstrap: How the intervals are drawn.
    """
    averaged = both_orders(choices)
    systems = dict.fromkeys(system for choice in averaged for system in (choice.first, choice.second))
    return [_win_rate(system, averaged, bootstrap) for system in systems]


@dataclass(frozen=True)
class _Pair:
    """A system and another.

    Attributes:
        rows: Their places among all choices of the system.
        shares: For the system.
        design: The columns of the model: strength, and length where it varies.
        reason: Why there is no model.
    """

    rows: NDArray[np.intp]
    shares: Numbers
    design: Numbers
    reason: str

    @classmethod
    def of(cls, rows: NDArray[np.intp], choices: Sequence[PairChoice]) -> "_Pair":
        shares, longer = np.array([(choice.share, _longer(choice)) for choice in choices]).T
        spread = longer.std(ddof=1) if len(longer) > 1 else 0.0
        strength = np.ones((len(choices), 1))
        if not spread:
            return cls(rows, shares, strength, SAME_DIFFERENCE if longer.any() else "")
        design = np.column_stack([strength, np.tanh(longer / spread)])
        finite = np.isfinite(fit_logistic(design, shares, np.ones((1, len(shares))))).all()
        return cls(rows, shares, design, "" if finite else SEPARATED)

    def raw(self, weights: Numbers) -> Numbers:
        """Return the win rate of samples."""
        drawn = weights[:, self.rows]
        return ratio(drawn @ self.shares, drawn.sum(axis=1))

    def controlled(self, weights: Numbers) -> Numbers:
        """Return the win rate of samples at a difference in length of 0."""
        found, _ = climb(self.design, self.shares, weights[:, self.rows])
        return logistic(found[:, 0])


def _win_rate(system: str, choices: Sequence[PairChoice], bootstrap: Bootstrap) -> WinRate:
    chosen = [
        choice if choice.first == system else choice.turned()
        for choice in choices
        if system in (choice.first, choice.second)
    ]
    others = np.array([choice.second for choice in chosen])
    against = tuple(dict.fromkeys(others.tolist()))
    places = {other: np.flatnonzero(others == other) for other in against}
    pairs = [_Pair.of(rows, [chosen[row] for row in rows]) for rows in places.values()]
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
        words=float(np.mean([_longer(choice) for choice in chosen])),
    )


def _told(without: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"against {', '.join(others)}: {reason}" for reason, others in without.items())


def _longer(choice: PairChoice) -> float:
    return choice.first_length - choice.second_length
