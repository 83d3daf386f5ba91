"""Votes as numbers: one row per rater, one column per unit, unblinded. All statistics use a `RatingMatrix`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np

from localemp.studies.schema import TIE
from localemp.studies.stats.intervals import Numbers
from localemp.studies.study import Study
from localemp.studies.votes import Vote


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of one answer: an item in an A/B test, a reply in a rating study.

    Attributes:
        aspect: The aspect's name.
        item: The item's id.
        reply: The key of the reply that is rated; A/B: of the reply that the choice is a choice for or against.
        dialogue: What the item shows; units of one dialogue are drawn together.
        group: A/B: the comparison, "plain vs. twostage". Rating: the system.
    """

    aspect: str
    item: str
    reply: str
    dialogue: str
    group: str


@dataclass(frozen=True)
class RatingMatrix:
    """Answers as a matrix of numbers.

    Attributes:
        raters: Of the rows.
        units: Of the columns.
        values: Rating: the number. A/B: 1 where the comparison's first system is better, -1 where the other is, 0 for a
            tie. NaN where nothing was answered.
        ab: Which of the two.
        majority: Whether the raters of a reply are taken together by majority, not by their mean.
    """

    raters: tuple[str, ...]
    units: tuple[Unit, ...]
    values: Numbers
    ab: bool
    majority: bool = False

    @classmethod
    def of(cls, study: Study, votes: Iterable[Vote]) -> Self:
        """Build the matrix of some votes, without attention checks; all matrices of a study have the same units."""
        ab = study.manifest.scale is None
        units = _units(study)
        columns = {(unit.aspect, unit.item, "" if ab else unit.reply): place for place, unit in enumerate(units)}
        counted = [vote for vote in votes if vote.item not in study.key.checks]
        # A person and somebody in an imported file may have one name and are two.
        rows = {who: row for row, who in enumerate(dict.fromkeys((vote.kind, vote.rater) for vote in counted))}
        values = np.full((len(rows), len(units)), np.nan)
        for vote in counted:
            column = columns[vote.aspect, vote.item, vote.reply]
            values[rows[vote.kind, vote.rater], column] = _choice(vote, units[column]) if ab else float(vote.value)
        return cls(tuple(rater for _, rater in rows), units, values, ab, study.manifest.ratings_by == "majority")

    def only(self, aspect: str | None = None, group: str | None = None) -> "RatingMatrix":
        """Select the answered units of an aspect or a group, and their raters."""
        kept = [
            place
            for place, unit in enumerate(self.units)
            if aspect in (None, unit.aspect) and group in (None, unit.group)
        ]
        values = self.values[:, kept]
        answered = np.isfinite(values)
        rows, columns = np.flatnonzero(answered.any(axis=1)), np.flatnonzero(answered.any(axis=0))
        units = tuple(self.units[kept[column]] for column in columns)
        raters = tuple(self.raters[row] for row in rows)
        return replace(self, raters=raters, units=units, values=values[rows][:, columns])

    @property
    def dialogues(self) -> list[str]:
        """The dialogue of every unit."""
        return [unit.dialogue for unit in self.units]

    def combined(self) -> Numbers:
        """Return the combined rating or the majority's choice for each unit; NaN where nobody answered.

        The majority's choice is the one that more raters gave than any other; where there is none, it is a tie. The
        majority's rating is what more than half of the raters gave; where there is none, their median. A value that
        more than half gave is their median anyway.
        """
        if not self.ab:
            return _columns(np.nanmedian if self.majority else np.nanmean, self.values)
        counts = self.counts((-1, 0, 1))
        most = counts == counts.max(axis=1, keepdims=True)
        choice = np.where(most.sum(axis=1) == 1, np.array([-1.0, 0.0, 1.0])[most.argmax(axis=1)], 0.0)
        return np.where(counts.any(axis=1), choice, np.nan)

    def counts(self, values: Sequence[float]) -> Numbers:
        """Return how many raters gave each value, one row per unit."""
        return np.stack([(self.values == value).sum(axis=0) for value in values], axis=1).astype(float)


def _columns(combine: Callable[..., Numbers], values: Numbers) -> Numbers:
    """Combine each column; NaN for empty columns."""
    found = np.full(values.shape[1], np.nan)
    answered = np.isfinite(values).any(axis=0)
    if answered.any():
        found[answered] = combine(values[:, answered], axis=0)
    return found


def groups(study: Study) -> list[str]:
    """Return the comparisons or systems that have a unit, in the order of the systems."""
    if study.manifest.scale is not None:
        return list(study.systems)
    there = {unit.group for unit in _units(study)}
    return [group for pair in combinations(study.systems, 2) if (group := comparison(*pair)) in there]


def comparison(first: str, second: str) -> str:
    """Return the name of a comparison of two systems."""
    return f"{first} vs. {second}"


def _units(study: Study) -> tuple[Unit, ...]:
    key, order = study.key, {system: place for place, system in enumerate(study.systems)}
    units = []
    for aspect in study.manifest.aspects:
        for item in study.items:
            if item.id in key.checks:
                continue
            dialogue = key.dialogues.get(item.id, item.id)
            replies = sorted(item.replies, key=lambda reply: order[key.systems[reply.key]])
            systems = [key.systems[reply.key] for reply in replies]
            if study.manifest.scale is None:
                units.append(Unit(aspect.name, item.id, replies[0].key, dialogue, comparison(*systems)))
            else:
                units += [
                    Unit(aspect.name, item.id, reply.key, dialogue, system)
                    for reply, system in zip(replies, systems, strict=True)
                ]
    return tuple(units)


def _choice(vote: Vote, unit: Unit) -> float:
    if vote.value == TIE:
        return 0.0
    return 1.0 if vote.value == unit.reply else -1.0
