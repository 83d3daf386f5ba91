"""Raters whose parameters are known: what they prefer, how often they tie, agree, and take what they see first."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localemp.engines.base import Completion, Engine
from localemp.sampling import Sampling
from localemp.studies.judging.judge import Judge, JudgeLog, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.schema import TIE
from localemp.studies.stats.matrix import RatingMatrix, Unit
from localemp.studies.study import Study
from localemp.studies.votes import Vote

VALUES = np.array([-1.0, 0.0, 1.0])


@dataclass(frozen=True)
class Raters:
    """A panel of raters who choose between two replies.

    Each item has an opinion of its own, drawn from `tie` and `win`. A rater takes what is shown first with the
    probability `first`; otherwise the item's opinion with the probability `agree`, or one drawn anew.
    """

    win: float = 0.6  # the first system's share of what is no tie
    tie: float = 0.2
    agree: float = 0.6
    first: float = 0.0
    raters: int = 3

    @property
    def opinion(self) -> NDArray:
        """Probabilities of lose, tie and win in an opinion."""
        return np.array([(1 - self.tie) * (1 - self.win), self.tie, (1 - self.tie) * self.win])

    @property
    def vote(self) -> NDArray:
        """The same of a vote."""
        return self.first * np.array([0.5, 0, 0.5]) + (1 - self.first) * self.opinion

    @property
    def share(self) -> float:
        """Wins among wins and losses of votes."""
        return self.vote[2] / (self.vote[0] + self.vote[2])

    @property
    def first_share(self) -> float:
        """The first-shown reply's share of votes that are no tie."""
        rest = (1 - self.first) * (1 - self.tie)
        return (self.first + rest / 2) / (self.first + rest)

    @property
    def alpha(self) -> float:
        """Krippendorff's ordinal alpha without end: what the ranks of two raters' votes share of their spread."""
        ranks = self.vote.cumsum() - self.vote / 2
        shared = self.opinion @ ranks**2 - (self.opinion @ ranks) ** 2
        spread = self.vote @ ranks**2 - (self.vote @ ranks) ** 2
        return (self.agree * (1 - self.first)) ** 2 * shared / spread

    @property
    def equal(self) -> float:
        """How often two votes on an item are the same."""
        own = self.agree * (1 - self.first)
        drawn = (self.vote - own * self.opinion) / (1 - own)
        same = (1 - own) ** 2 * (drawn**2).sum() + 2 * own * (1 - own) * (drawn * self.opinion).sum()
        return own**2 + same

    def votes(self, items: int, draw: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Votes and, for each, whether the first system was shown first; one row a rater."""
        shape = (self.raters, items)
        opinions = draw.choice(VALUES, items, p=self.opinion)
        own = np.where(draw.random(shape) < self.agree, opinions, draw.choice(VALUES, shape, p=self.opinion))
        ahead = draw.random(shape) < 0.5
        return np.where(draw.random(shape) < self.first, np.where(ahead, 1.0, -1.0), own), ahead


def sheet(values: NDArray | list, aspect: str = "Empathy", group: str = "a vs. b", ab: bool = True) -> RatingMatrix:
    """A sheet of one aspect, every column a dialogue of its own."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    units = tuple(Unit(aspect, f"i{number}", f"k{number}", f"d{number}", group) for number in range(values.shape[1]))
    return RatingMatrix(tuple(f"r{number}" for number in range(len(values))), units, values, ab)


def as_votes(
    study: Study, values: NDArray, aspect: str, ahead: NDArray | None = None, kind: str = "person"
) -> list[Vote]:
    """Choices as votes on the items of a study that are no attention checks; one row a rater, NaN is no answer."""
    items = [item for item in study.items if item.id not in study.key.checks]
    votes = []
    for rater, row in enumerate(values):
        for column, (item, value) in enumerate(zip(items, row, strict=True)):
            if np.isfinite(value):
                one, other = sorted(
                    (reply.key for reply in item.replies), key=lambda key: study.systems.index(study.key.systems[key])
                )
                chosen = TIE if value == 0 else one if value > 0 else other
                first = "" if ahead is None else one if ahead[rater, column] else other
                votes.append(Vote(f"r{rater}", item.id, aspect, chosen, first=first, kind=kind))
    return votes


class Opinionated(Engine):
    """Judges the replies of a small study.

    Args:
        choose: Number of the item, name of the aspect -> 1 for the first system's reply, -1 for the other's, 0 for a
            tie, None for nonsense.
        flips: Of so many of the first items it takes what it is shown first.
    """

    name = "opinionated"
    concurrency = 4

    def __init__(self, choose: Callable[[int, str], float | None], flips: int = 0) -> None:
        self.choose, self.flips = choose, flips

    async def chat(self, messages, sampling):
        text = messages[-1].content
        shown, number = map(int, re.search(r"Reply A: Reply (\d) to (\d+)", text).groups())
        choice = self.choose(number, re.search(r"What (\w+) means", text)[1])
        if number < self.flips:
            answer = "A"
        elif choice is None:
            return Completion("Well.", "stop", 9, 1)
        else:
            answer = TIE if choice == 0 else "A" if (choice < 0) == (shown == 1) else "B"
        return Completion(json.dumps({"choice": answer}), "stop", 9, 1)

    def describe(self):
        return {"engine": self.name}


def judged(study: Study, name: str, choose: Callable[[int, str], float | None], flips: int = 0) -> Path:
    """A judge's folder, written by `Judge` itself; see `Opinionated`."""
    judge = Judge(study, JudgePrompts.read(), Sampling())
    with JudgeLog.open(study.folder / "judges" / name, judge.describe()) as answers:
        asyncio.run(judge.ask_all(questions(study), Opinionated(choose, flips), answers))
    return study.folder / "judges" / name
