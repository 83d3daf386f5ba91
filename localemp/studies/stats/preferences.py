"""Preferences: how often one system wins, loses and ties against another (the paper's Table 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from localemp.metrics.significance import CONFIDENCE, Interval
from localemp.metrics.ttest import TTest, paired_t
from localemp.studies.stats.intervals import Bootstrap, Estimate
from localemp.studies.stats.matrix import RatingMatrix

ONLY_TIES = "only ties"
NO_VOTE = "nobody answered"


@dataclass(frozen=True, slots=True)
class Preference:
    """One comparison by one aspect.

    Attributes:
        comparison: Of two systems, "plain vs. twostage".
        aspect: What was asked.
        raters, items: How many of each the comparison has, by all aspects together.
        counted: Every vote (pooled, as the paper has it), or one majority for every item.
        win: How often the first system was better.
        lose: How often the second was.
        tie: How often neither was; among majorities also where no answer has more votes than any other.
        share: Wins among wins and losses, with Wilson's interval, which takes all votes for independent.
        by_dialogue: The same share's interval by bootstrap over dialogues, which does not.
        p: Two-sided, of the exact binomial test of wins against losses, which takes all votes for independent.
        t_test: Paired, of the two systems on each item: its share of votes for the first less that for the second.
    """

    comparison: str
    aspect: str
    raters: int
    items: int
    counted: Literal["votes", "majorities"]
    win: int
    lose: int
    tie: int
    share: Estimate
    by_dialogue: Estimate
    p: float | None
    t_test: TTest

    @property
    def total(self) -> int:
        """Votes, or items."""
        return self.win + self.lose + self.tie

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        names = ("comparison", "aspect", "raters", "items", "counted", "win", "lose", "tie", "p")
        figures = {name: getattr(self, name).as_dict() for name in ("share", "by_dialogue", "t_test")}
        return {**{name: getattr(self, name) for name in names}, **figures}


def preferences(
    matrix: RatingMatrix, aspects: Sequence[str], comparisons: Sequence[str], bootstrap: Bootstrap
) -> list[Preference]:
    """Return all comparisons by all aspects: pooled votes, and majorities if an item has more than one vote."""
    found = []
    for comparison in comparisons:
        part = matrix.only(group=comparison)
        size = len(part.raters), len({unit.item for unit in part.units})
        for aspect in aspects:
            voted = part.only(aspect)
            found.append(_preference(comparison, aspect, size, "votes", voted, bootstrap))
            if len(voted.raters) > 1:
                majority = replace(voted, raters=("majority",), values=voted.combined()[np.newaxis])
                found.append(_preference(comparison, aspect, size, "majorities", majority, bootstrap))
    return found


def wilson(count: int, of: int) -> Interval:
    """Return Wilson's interval of a share of independent votes."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, of, alpha=1 - CONFIDENCE, method="wilson")
    return max(0.0, round(float(low), 12)), min(1.0, round(float(high), 12))


def _preference(
    comparison: str,
    aspect: str,
    size: tuple[int, int],
    counted: Literal["votes", "majorities"],
    matrix: RatingMatrix,
    bootstrap: Bootstrap,
) -> Preference:
    from scipy.stats import binomtest

    each = matrix.counts((1, -1, 0))
    win, lose, tie = (int(count) for count in each.sum(axis=0))
    t_test = paired_t((each[:, 0] - each[:, 1]) / each.sum(axis=1)) if len(each) else TTest(0, reason=NO_VOTE)
    if win + lose:
        won, decided = win / (win + lose), each[:, :2].sum(axis=1)
        share = Estimate(won, wilson(win, win + lose))
        by_dialogue = bootstrap.ratio(each[:, 0], decided, matrix.dialogues)
        p = float(binomtest(win, win + lose).pvalue)
    else:
        share = by_dialogue = Estimate(None, reason=ONLY_TIES if tie else NO_VOTE)
        p = None
    raters, items = size
    return Preference(
        comparison=comparison,
        aspect=aspect,
        raters=raters,
        items=items,
        counted=counted,
        win=win,
        lose=lose,
        tie=tie,
        share=share,
        by_dialogue=by_dialogue,
        p=p,
        t_test=t_test,
    )
