"""Statistical power: how many dialogues a study needs, and what a study of a given size can find.

The test is the one of `study report`: a paired t-test over dialogues, two-sided. Its values are, for each dialogue, the
share of votes for the first system minus that for the second (A/B), or the difference between the two replies' mean
ratings. One rater's value has a variance v; values of two raters on one dialogue correlate by the agreement r; so the
mean over R raters has the variance v (1 + (R - 1) r) / R, and the power follows from the noncentral t distribution.

    A/B     v = 1 - ties - effect²     votes are 1, 0 and -1, and their mean is the effect
    rating  v = 2 sd²                  two replies whose ratings have the standard deviation sd and do not correlate
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from localemp.errors import OptionError
from localemp.studies.schema import Kind

RATERS = 3
ALPHA = 0.05
POWER = 0.8
TIES = 0.2
AGREEMENT = 0.25
WIDTHS = 0.25  # of a scale: the default standard deviation of ratings
SD = 1.0  # the same on the scale from 1 to 5

MOST_DIALOGUES = 1_000_000
MOST_RATERS = 1000
_SMALLEST_SD, _LARGEST_SD = 1e-9, 1e9  # beyond any scale; the squares of others leave the range of floats
_STEPS = 60  # of a bisection: the last is below the precision of floats


@dataclass(frozen=True, slots=True)
class Design:
    """What is planned, and what is assumed of raters.

    Attributes:
        kind: Of the study.
        raters: Who answer about each dialogue.
        ties: Share of ties among votes (A/B).
        agreement: Correlation of two raters' values on one dialogue, the intraclass correlation.
        sd: Standard deviation of one rater's ratings of one system, in points of the scale (ratings).
        alpha: Significance level.
        tests: How many tests share it: each is made at alpha / tests (Bonferroni), as Holm's correction does with the
            smallest p-value.

    Raises:
        OptionError: A value is impossible.
    """

    kind: Kind = "ab"
    raters: int = RATERS
    ties: float = TIES
    agreement: float = AGREEMENT
    sd: float = SD
    alpha: float = ALPHA
    tests: int = 1

    def __post_init__(self) -> None:
        _check("raters", self.raters, 1 <= self.raters <= MOST_RATERS, f"from 1 to {MOST_RATERS}")
        _check("ties", self.ties, 0 <= self.ties < 1, "a share from 0, below 1")
        _check("agreement", self.agreement, 0 <= self.agreement < 1, "a correlation from 0, below 1")
        _check("sd", self.sd, _SMALLEST_SD <= self.sd <= _LARGEST_SD, "points of the scale, above 0")
        _check("alpha", self.alpha, 0 < self.alpha < 1, "a probability between 0 and 1")
        _check("tests", self.tests, 1 <= self.tests <= MOST_DIALOGUES, f"from 1 to {MOST_DIALOGUES:,}")

    @property
    def level(self) -> float:
        """The level of a single test."""
        return self.alpha / self.tests

    @property
    def bound(self) -> float:
        """What every effect is below."""
        return 1 - self.ties if self.kind == "ab" else math.inf

    def variance(self, effect: float) -> float:
        """Return the variance of a dialogue's value."""
        one = 1 - self.ties - effect**2 if self.kind == "ab" else 2 * self.sd**2
        return one * (1 + (self.raters - 1) * self.agreement) / self.raters

    def check_effect(self, effect: float) -> None:
        """Check that there can be such an effect.

        Raises:
            OptionError: There cannot.
        """
        _check("effect", effect, 0 < effect < math.inf, "above 0: the tests are two-sided, so only its size counts")
        if effect >= self.bound - 1e-9:
            raise OptionError(
                f"--effect {effect:g}: with {self.ties:.0%} ties nobody would prefer the other system",
                f"give less than {self.bound:g}, or fewer --ties",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict, without what the kind does not use."""
        return {name: value for name, value in asdict(self).items() if name != ("sd" if self.kind == "ab" else "ties")}


def t_test_power(design: Design, effect: float, dialogues: int) -> float:
    """Return the power of the paired t-test; 0 for fewer than two dialogues, which have no test.

    Args:
        design: The study.
        effect: A/B: share of votes for the first system minus that for the second. Ratings: difference of means.
        dialogues: Of the study.
    """
    from scipy.special import nctdtr, stdtrit

    if dialogues < 2:
        return 0.0
    freedom = dialogues - 1
    critical = float(stdtrit(freedom, 1 - design.level / 2))
    shift = effect * math.sqrt(dialogues / design.variance(effect))
    # scipy gives NaN where the distribution underflows.
    below, above = (float(np.nan_to_num(nctdtr(freedom, shift, at))) for at in (-critical, critical))
    return min(1.0, 1 - above + below)


def dialogues_needed(design: Design, effect: float, power: float = POWER) -> int | None:
    """Return the least number of dialogues with at least this power; None if it is above `MOST_DIALOGUES`.

    Raises:
        OptionError: Effect or power are impossible.
    """
    design.check_effect(effect)
    check_power(design, power)
    low, high = 1, 2
    while t_test_power(design, effect, high) < power:
        if high >= MOST_DIALOGUES:
            return None
        low, high = high, min(2 * high, MOST_DIALOGUES)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if t_test_power(design, effect, middle) < power else (low, middle)
    return high


def smallest_effect(design: Design, dialogues: int, power: float = POWER) -> float | None:
    """Return the smallest effect that this many dialogues find with this power; None if they find none.

    Raises:
        OptionError: The power is impossible.
    """
    check_power(design, power)
    low, high = 0.0, design.sd
    if design.kind == "ab":
        high = design.bound * (1 - 1e-9)
        if t_test_power(design, high, dialogues) < power:
            return None
    elif dialogues < 2:
        return None
    while t_test_power(design, high, dialogues) < power:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if t_test_power(design, middle, dialogues) < power else (low, middle)
    return high


def majority_power(design: Design, effect: float, dialogues: int) -> float:
    """Return the power of the exact binomial test of majorities (A/B).

    It needs more than a correlation: here each dialogue has an opinion, drawn like a vote, which a rater shares with
    the probability sqrt(agreement) and otherwise votes anew.
    """
    from scipy.special import bdtr, bdtrik, gammaln

    win, lose = _majorities(design, effect)
    decided, share = win + lose, win / (win + lose)
    spread = 10 * math.sqrt(dialogues * decided * (1 - decided)) + 1
    first = max(1, math.floor(dialogues * decided - spread))
    counts = np.arange(first, min(dialogues, math.ceil(dialogues * decided + spread)) + 1)
    rest = dialogues - counts
    log = gammaln(dialogues + 1) - gammaln(counts + 1) - gammaln(rest + 1) + counts * math.log(decided)
    often = np.exp(log + rest * math.log1p(-decided)) if decided < 1 else (counts == dialogues).astype(float)
    # The most votes of the losing side that are still significant; below 0 if no result is.
    most = np.floor(np.nan_to_num(bdtrik(design.level / 2, counts, 0.5), nan=-1.0))
    most = np.where((most >= 0) & (2 * bdtr(np.maximum(most, 0), counts, 0.5) > design.level), most - 1, most)
    found = np.where(most < 0, 0.0, sum(bdtr(np.maximum(most, 0), counts, side) for side in (share, 1 - share)))
    return float(min(1.0, (often * found).sum()))


def check_power(design: Design, power: float) -> None:
    """Check a power that is asked for.

    Raises:
        OptionError: It is no more than the level of the test, or not below 1.
    """
    level = f"{design.level:.2g}"
    _check("power", power, design.level < power < 1, f"a probability above the level of the test, {level}, and below 1")


def _majorities(design: Design, effect: float) -> tuple[float, float]:
    """Return how probable it is that most raters of a dialogue prefer the first system, and the second."""
    from scipy.special import gammaln, xlogy

    raters = design.raters
    wins, loses = (each.ravel().astype(float) for each in np.mgrid[0 : raters + 1, 0 : raters + 1])
    kept = wins + loses <= raters
    wins, loses = wins[kept], loses[kept]
    ties = raters - wins - loses
    orders = gammaln(raters + 1) - gammaln(wins + 1) - gammaln(loses + 1) - gammaln(ties + 1)
    opinion = np.array([(1 - design.ties + effect) / 2, (1 - design.ties - effect) / 2, design.ties])
    shared = math.sqrt(design.agreement)
    often = np.zeros(len(wins))
    for held, share in zip(np.eye(3), opinion, strict=True):
        vote = shared * held + (1 - shared) * opinion
        counted = zip((wins, loses, ties), vote, strict=True)
        often += share * np.exp(orders + sum(xlogy(each, chance) for each, chance in counted))
    win = often[(wins > loses) & (wins > ties)].sum()
    lose = often[(loses > wins) & (loses > ties)].sum()
    return float(win), float(lose)


def _check(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise OptionError(f"--{name} {value:g}: impossible", f"give {wanted}")
