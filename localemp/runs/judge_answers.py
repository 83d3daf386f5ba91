"""What a judge answered: the lines of `votes.jsonl`, in a study's folder of a judge and in a run's.

A line has one question: an item, an aspect, and the replies in the order in which they were shown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

VOTES = "votes.jsonl"

_CHOICES = ("A", "B", "tie")
_Probability = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]
_SURPLUS = 1e-6  # by which probabilities may add up to another number than 1, through rounding
_WHOLE = re.compile(r"-?\d{1,7}")
_Count = Annotated[int, Field(ge=0, le=10**12)] | None


class _Asked(BaseModel):
    """The required fields of every line of a judge's file; other keys are ignored here."""

    model_config = ConfigDict(strict=True)

    item: str
    aspect: str
    shown: Annotated[list[str], Field(min_length=1, max_length=2)]


class _Answered(_Asked):
    """A line with an answer."""

    text: str
    answer: Literal["A", "B", "tie"] | Annotated[int, Field(ge=-(10**6), le=10**6)] | None
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    thinking: str = ""
    thinking_tokens: _Count = None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    notes: list[str] = []
    probabilities: dict[str, _Probability] | None = None
    choice_mass: _Probability | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.answer is not None and isinstance(self.answer, int) != (len(self.shown) == 1):
            raise ValueError("answer: of one reply a number, of two a choice")
        if (told := self.probabilities) is not None:
            named = set(told) == set(_CHOICES) if len(self.shown) == 2 else all(map(_WHOLE.fullmatch, told))
            if not named or abs(sum(told.values()) - 1) > _SURPLUS:
                raise ValueError("probabilities: they are not of all answers, or do not add up to 1")
        return self


def check_answer(record: dict[str, Any]) -> None:
    """Raise ValueError if a record is not a valid line of a judge's file."""
    (_Asked if "error" in record else _Answered).model_validate(record)


def question_id(shown: Sequence[str], aspect: str, vote: int = 0) -> str:
    """Return the id of a question, unique in a file since the keys of replies are.

    Args:
        shown: Keys of the two replies in the order in which they are shown, or of the one to be rated.
        aspect: The aspect's name.
        vote: 0 for the first time that exactly this is asked, 1 for the second, ...
    """
    return f"{'+'.join(shown)} {aspect} {vote}"


def first_share(record: Mapping[str, Any]) -> float | None:
    """Return the probability with which a judge prefers the first of two replies; half of a tie is each reply's.

    Where probabilities are not known, the written answer is 1, 0, or 1/2 for a tie; None if it cannot be read.
    """
    if known := record.get("probabilities"):
        return min(1.0, float(known["A"] + known["tie"] / 2))
    return {"A": 1.0, "B": 0.0, "tie": 0.5}.get(record["answer"])


def folder_name(name: str) -> str:
    """Return the name of a folder for the name of a judge's model, or of an aspect."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.")
