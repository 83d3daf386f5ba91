"""Judges whose biases are known, and how often the intervals of `study calibrate` hold the truth.

A judge's answers about one dialogue are correlated, as real ones are, without a change of how often each is given (a
Gaussian copula). So the true values are exact, and intervals that took the answers for independent would be too narrow.

    holds   share of the trials in which the 95 % interval holds the true value
    none    share of the trials without an interval, which count in neither
    width   mean width of the interval
    off     mean of the values less the true one
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr
from script import Script, out_option, write_result

from localemp.studies.stats.bradley_terry import bradley_terry
from localemp.studies.stats.corrected_win_rates import corrected_win_rates
from localemp.studies.stats.effective_judges import effective_judges, effective_number
from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers
from localemp.studies.stats.judge_agreement import judge_agreement
from localemp.studies.stats.judge_bias import judge_bias
from localemp.studies.stats.judged import JudgedRating, PairChoice
from localemp.studies.stats.leniency import leniency
from localemp.studies.stats.rating_bias import rating_bias
from localemp.studies.stats.regression import logistic
from localemp.studies.stats.win_rates import length_controlled_win_rates

Truths = Mapping[str, tuple[Estimate, float]]
Trial = Callable[[int, np.random.Generator, Bootstrap], Truths]

STRENGTHS = {"a": 0.0, "b": 0.4, "c": 0.8, "d": 1.2}
"""What people think of the systems: log odds of a preference."""
WORDS = (3.0, 2.8, 3.1, 3.2)
"""How long their replies are: means of the logarithm of words."""
OWN = "d"
"""The system that the judge's own model wrote."""


@dataclass(frozen=True, slots=True)
class SyntheticJudge:
    """A judge that chooses between two replies.

    Attributes:
        position: Log odds for the reply shown first.
        length: For twice as many words; or, where `bounded`, for tanh of the standardised difference in words.
        own: For its own model's reply.
        quality: For one that all people prefer.
        strength: How far it follows what the replies are worth, which people's answers tell only roughly.
        varied: Standard deviation of what the replies of one system are worth, beside another's.
        shared: Correlation of its answers about one dialogue.
        bounded: How `length` enters.
        raters: How many people answer each pair.
    """

    position: float = 0.0
    length: float = 0.0
    own: float = 0.0
    quality: float = 0.0
    strength: float = 0.0
    varied: float = 0.8
    shared: float = 0.3
    bounded: bool = False
    raters: int = 3

    def choices(self, dialogues: int, draw: np.random.Generator) -> list[PairChoice]:
        """Choose between each two systems, in both orders."""
        found = []
        for dialogue in range(dialogues):
            words = dict(zip(STRENGTHS, np.round(draw.lognormal(WORDS, 0.4)) + 1, strict=True))
            common = draw.normal()
            for one, other in combinations(STRENGTHS, 2):
                better = STRENGTHS[one] - STRENGTHS[other] + draw.normal(0, self.varied)
                people = draw.binomial(self.raters, float(logistic(np.array(better)))) / self.raters
                for first, second, share, gap in ((one, other, people, better), (other, one, 1 - people, -better)):
                    odds = self._odds(first, second, words, share, gap)
                    noise = np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * draw.normal()
                    chosen = float(ndtr(noise) < logistic(np.array(odds)))
                    lengths = float(words[first]), float(words[second])
                    found.append(PairChoice(f"d{dialogue}", "Empathy", first, second, *lengths, chosen, float(share)))
        return found

    def _odds(self, first: str, second: str, words: Mapping[str, float], people: float, gap: float) -> float:
        longer = np.tanh((words[first] - words[second]) / 12) if self.bounded else np.log2(words[first] / words[second])
        own = (first == OWN) - (second == OWN)
        seen = self.quality * (2 * people - 1) + self.strength * gap
        return float(self.position + self.length * longer + self.own * own + seen)


BIASED = SyntheticJudge(position=0.5, length=0.6, own=0.5, quality=1.0)
"""All of its biases at once."""


def bias(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge with every bias."""
    found = judge_bias(BIASED.choices(dialogues, draw), [OWN], bootstrap)
    return {
        "bias: position": (found.position.log_odds, BIASED.position),
        "bias: length": (found.length.log_odds, BIASED.length),
        "bias: own model": (found.own.log_odds, BIASED.own),
        "bias: quality": (found.quality.log_odds, BIASED.quality),
    }


def noisy_people(raters: int) -> Trial:
    """Return a judge without bias, whose own model is the best; people see how good a reply is only roughly."""
    judge = SyntheticJudge(strength=1.0, raters=raters)

    def trial(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
        found = judge_bias(judge.choices(dialogues, draw), [OWN], bootstrap)
        return {f"bias: own model, {raters} people": (found.own.log_odds, 0.0)}

    trial.__name__ = f"people_{raters}"
    return trial


def strengths(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge that knows what each system is worth."""
    found = bradley_terry(SyntheticJudge(strength=1.0, varied=0.0).choices(dialogues, draw), bootstrap)
    mean = np.mean(list(STRENGTHS.values()))
    weakest, best = min(STRENGTHS, key=STRENGTHS.__getitem__), max(STRENGTHS, key=STRENGTHS.__getitem__)
    return {
        f"Bradley-Terry: {name}": (one.strength, float(STRENGTHS[system] - mean))
        for one in found
        for name, system in (("best", best), ("weakest", weakest))
        if one.system == system
    }


def win_rates(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge that prefers long replies, and the first; the raw rate is what it would be without the first."""
    judge = SyntheticJudge(position=0.5, length=1.0, strength=1.0, varied=0.0, bounded=True)
    choices = [choice for choice in judge.choices(dialogues, draw) if OWN in (choice.first, choice.second)]
    best = next(rate for rate in length_controlled_win_rates(choices, bootstrap) if rate.system == OWN)
    gaps = np.array([STRENGTHS[OWN] - strength for system, strength in STRENGTHS.items() if system != OWN])
    fair = float((logistic(gaps + judge.position) + logistic(gaps - judge.position)).mean() / 2)
    return {"win rate: length-controlled": (best.controlled, fair), "win rate: raw": (best.raw, fair)}


def agreement(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge that is right in 70 % of the pairs in which people prefer one, and draws otherwise."""
    choices = [
        replace(choice, share=float(ndtr(noise) < (0.7 if choice.people > 0.5 else 0.3)))
        for choice, noise in _noisy(SyntheticJudge(), dialogues, draw)
        if choice.people is not None
    ]
    return {"agreement: accuracy": (judge_agreement(choices, bootstrap).accuracy, 0.7)}


def corrected(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge with a sensitivity of 0.85 and a specificity of 0.7; people answer 40 % of the pairs: a wins 35 %."""
    found = []
    for dialogue in range(dialogues):
        better = draw.random() < 0.35
        share = float(draw.random() < (0.85 if better else 0.3))
        people = float(better) if draw.random() < 0.4 else None
        found.append(PairChoice(f"d{dialogue}", "Empathy", "a", "b", 9, 9, share, people))
    (rate,) = corrected_win_rates(found, bootstrap)
    return {"win rate: corrected": (rate.corrected, 0.35), "win rate: not corrected": (rate.judged, 0.35)}


def ratings(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """A judge that is lenient by 0.1 of its scale, adds 0.05 for twice the words and 0.08 for its own model."""
    found = []
    for dialogue in range(dialogues):
        common = draw.normal(0, 0.06)
        for system, words in zip(STRENGTHS, draw.lognormal(WORDS, 0.4), strict=True):
            worth = common + 0.1 * STRENGTHS[system] + draw.normal(0, 0.1)
            people = 0.4 + worth + draw.normal(0, 0.2, 3)
            longer, own = np.log2(words) - np.mean(WORDS) / np.log(2), (system == OWN) - 1 / len(STRENGTHS)
            judge = 0.5 + worth + 0.05 * longer + 0.08 * own + draw.normal(0, 0.05)
            theirs = tuple(float(1 + 4 * value) for value in people)
            found.append(JudgedRating(f"d{dialogue}", "", "Empathy", system, float(10 * judge), theirs, float(words)))
    (use,) = leniency(found, (0, 10), (1, 5), bootstrap)
    (effects,) = rating_bias(found, [OWN], (0, 10), (1, 5), bootstrap)
    return {
        "ratings: leniency": (use.difference, 0.1),
        "ratings: length": (effects.length, 0.05),
        "ratings: own model": (effects.own, 0.08),
    }


def panel(dialogues: int, draw: np.random.Generator, bootstrap: Bootstrap) -> Truths:
    """Five judges whose errors have a correlation of 0.4; there are four questions on each dialogue."""
    units, judges = 4 * dialogues, 5
    of = np.repeat(np.arange(dialogues), 4)

    def errors(rows: int) -> Numbers:
        alike = draw.normal(size=(rows, dialogues))[:, of]
        return np.asarray(np.sqrt(0.3) * alike + np.sqrt(0.7) * draw.normal(size=(rows, units)), dtype=float)

    people = draw.normal(size=units)
    told = people + np.sqrt(0.4) * errors(1) + np.sqrt(0.6) * errors(judges)
    answers = {f"judge {number}": row for number, row in enumerate(told)}
    found = effective_judges(answers, people, [f"d{dialogue}" for dialogue in of], bootstrap)
    return {"effective judges": (found.effective, float(effective_number(judges, np.array(0.4))))}


TRIALS: tuple[Trial, ...] = (
    bias,
    *(noisy_people(raters) for raters in (1, 3, 10)),
    win_rates,
    corrected,
    strengths,
    agreement,
    ratings,
    panel,
)


@dataclass(frozen=True, slots=True)
class Held:
    """What many trials of one figure gave: see the module's text."""

    name: str
    truth: float
    holds: float
    none: float
    width: float
    off: float


def coverage(trial: Trial, dialogues: int, trials: int, bootstrap: Bootstrap, seed: int = 0) -> list[Held]:
    """Repeat a trial, and count how often its intervals hold the truth."""
    found: dict[str, list[tuple[Estimate, float]]] = {}
    for number in range(trials):
        for name, told in trial(dialogues, np.random.default_rng([seed, number]), bootstrap).items():
            found.setdefault(name, []).append(told)
    return [_held(name, told) for name, told in found.items()]


def _held(name: str, told: Sequence[tuple[Estimate, float]]) -> Held:
    ends = np.array([estimate.interval for estimate, _ in told if estimate.interval]).reshape(-1, 2)
    values = [estimate.value for estimate, _ in told if estimate.value is not None]
    truth = told[0][1]
    if not len(ends):
        return Held(name, truth, np.nan, 1.0, np.nan, np.nan)
    inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return Held(
        name=name,
        truth=truth,
        holds=float(inside.mean()),
        none=1 - len(ends) / len(told),
        width=float(np.ptp(ends, axis=1).mean()),
        off=float(np.mean(values) - truth),
    )


def _noisy(judge: SyntheticJudge, dialogues: int, draw: np.random.Generator) -> list[tuple[PairChoice, float]]:
    """Return choices with a number each that those of one dialogue have partly in common."""
    choices = [choice for choice in judge.choices(dialogues, draw) if choice.first < choice.second]
    common = {choice.dialogue: draw.normal() for choice in choices}
    mixed = np.sqrt(judge.shared), np.sqrt(1 - judge.shared)
    return [(choice, float(mixed[0] * common[choice.dialogue] + mixed[1] * draw.normal())) for choice in choices]


@click.command(cls=Script)
@click.option("--dialogues", type=int, multiple=True, default=(20, 60, 135), show_default=True)
@click.option("--trials", default=400, show_default=True)
@click.option("--resamples", default=500, show_default=True)
@out_option
def main(dialogues: Sequence[int], trials: int, resamples: int, out: Path | None) -> None:
    rows: list[dict[str, Any]] = []
    for size in dialogues:
        table = Table("", "true", "holds", "none", "width", "off", title=f"{size} dialogues, {trials} trials")
        for held in (held for trial in TRIALS for held in coverage(trial, size, trials, Bootstrap(resamples))):
            cells = (
                f"{held.truth:.2f}",
                f"{held.holds:.0%}",
                f"{held.none:.0%}",
                f"{held.width:.3f}",
                f"{held.off:+.3f}",
            )
            table.add_row(held.name, *cells)
            rows.append({"dialogues": size, **{name: getattr(held, name) for name in Held.__slots__}})
        Console().print(table)
    write_result(out, {"trials": trials, "resamples": resamples, "figures": rows})


if __name__ == "__main__":
    main()
