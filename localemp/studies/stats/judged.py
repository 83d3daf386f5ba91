"""What a judge said, beside what people said: choices between two replies, and ratings of one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NO_PEOPLE = "people did not answer all of it"


@dataclass(frozen=True, slots=True)
class PairChoice:
    """A judge's choice between the replies of two systems, in one shown order.

    Attributes:
        dialogue: Choices of one dialogue are drawn together.
        aspect: What was asked.
        first: The system whose reply was shown first.
        second: The system whose reply was shown second.
        first_length: Words of the first reply.
        second_length: Words of the second.
        share: For the reply shown first, 0 to 1: the judge's probability, or 1, 0.5 (tie) and 0.
        people: The same of people, however they were shown the two; None where they were not asked.
        item: The item's id, where a dialogue has several.
    """

    dialogue: str
    aspect: str
    first: str
    second: str
    first_length: float
    second_length: float
    share: float
    people: float | None = None
    item: str = ""

    def turned(self) -> "PairChoice":
        """Return the same choice as one for or against the other reply."""
        return PairChoice(
            dialogue=self.dialogue,
            aspect=self.aspect,
            first=self.second,
            second=self.first,
            first_length=self.second_length,
            second_length=self.first_length,
            share=1 - self.share,
            people=None if self.people is None else 1 - self.people,
            item=self.item,
        )


@dataclass(frozen=True, slots=True)
class JudgedRating:
    """A judge's rating of a reply, and what people gave it.

    Attributes:
        dialogue: Ratings of one dialogue are drawn together.
        item: The item's id.
        aspect: What was asked.
        system: Whose reply it is.
        judge: The judge's rating, on its own scale.
        people: Each person's rating, on theirs.
        length: Words of the reply.
    """

    dialogue: str
    item: str
    aspect: str
    system: str
    judge: float
    people: tuple[float, ...]
    length: float


def both_orders(choices: Sequence[PairChoice]) -> list[PairChoice]:
    """Average the orders that a pair was shown in: one choice a pair and aspect, of the systems in alphabetical order.

    What a reply gained by its place cancels if the pair was shown in both orders.
    """
    shown: dict[tuple[str, str, str, str, str], list[PairChoice]] = {}
    for choice in choices:
        one = choice if choice.first <= choice.second else choice.turned()
        shown.setdefault((one.dialogue, one.item, one.aspect, one.first, one.second), []).append(one)
    return [_averaged(orders) for orders in shown.values()]


def _averaged(orders: list[PairChoice]) -> PairChoice:
    one = orders[0]
    known = [each.people for each in orders if each.people is not None]
    return PairChoice(
        dialogue=one.dialogue,
        aspect=one.aspect,
        first=one.first,
        second=one.second,
        first_length=one.first_length,
        second_length=one.second_length,
        share=float(np.mean([each.share for each in orders])),
        people=float(np.mean(known)) if known else None,
        item=one.item,
    )
