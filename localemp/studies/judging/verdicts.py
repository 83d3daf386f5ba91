"""Turn a judge's answers into votes, and measure how reliable the judge is.

Models prefer what they see first, or second. A reply therefore wins only if it wins in both orders. Where the orders
disagree, the vote is a tie and counts as a flip.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from localemp.errors import RunError
from localemp.runs.journal import MANIFEST, newest, read_lines, read_manifest
from localemp.runs.run import thinking_tokens
from localemp.studies.schema import TIE
from localemp.studies.votes import Vote

VOTES = "votes.jsonl"

N = TypeVar("N", int, float)
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

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.answer is not None and isinstance(self.answer, int) != (len(self.shown) == 1):
            raise ValueError("answer: of one reply a number, of two a choice")
        return self


@dataclass(frozen=True, slots=True)
class JudgeStats:
    """Statistics of a judge; None where one cannot be computed.

    Attributes:
        answers: That came.
        unparsable: Answers that cannot be read.
        failed: Questions without an answer.
        votes: That follow from the answers.
        missing: Votes that do not, for want of an answer that can be read.
        pairs: A/B votes.
        flips: Of these, those whose two orders disagree.
        choices: Answers that prefer a reply.
        first: Of these, those that prefer the one shown first.
        prompt_tokens, completion_tokens: Of all answers; None where one came without its count.
        thinking_tokens: Those of them that were thinking; None where an answer with thinking came without its count.
        cost: US dollars; None where a price is not known.
        notes: What had to be changed to get answers ("response_format dropped: the model refuses it").
    """

    answers: int
    unparsable: int
    failed: int
    votes: int
    missing: int
    pairs: int
    flips: int
    choices: int
    first: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    notes: tuple[str, ...]
    thinking_tokens: int | None = 0

    @property
    def unparsable_share(self) -> float | None:
        """Share of the answers that cannot be read."""
        return self.unparsable / self.answers if self.answers else None

    @property
    def flip_rate(self) -> float | None:
        """The share of pairs where the order decides: 0 for a consistent judge, 1 for one that sees only the order."""
        return self.flips / self.pairs if self.pairs else None

    @property
    def first_share(self) -> float | None:
        """Position bias: 0.5 is none, 1 is a judge that always prefers what is shown first."""
        return self.first / self.choices if self.choices else None


def check_answer(record: dict[str, Any]) -> None:
    """Raise ValueError if a record is not a valid line of a judge's file."""
    (_Asked if "error" in record else _Answered).model_validate(record)


def read_judge(folder: Path) -> list[Vote]:
    """Read a judge's votes, one for each aspect of an item (A/B) or of a reply (rating).

    Raises:
        RunError: A line is damaged.
    """
    return combine(folder.name, newest(read_lines(folder / VOTES, check_answer)))[0]


def read_stats(folder: Path, without: Collection[str] = ()) -> JudgeStats:
    """Read the statistics of a judge; raises what `read_judge` raises.

    Args:
        folder: The judge's.
        without: Items that are not counted: attention checks, where the order of replies decides nothing.
    """
    records = newest(read_lines(folder / VOTES, check_answer))
    return combine(folder.name, [record for record in records if record["item"] not in without])[1]


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings that a judge ran with.

    Raises:
        RunError: It has no manifest, or a damaged one.
    """
    settings = read_manifest(folder)["settings"]
    if not isinstance(settings, dict) or not isinstance(settings.get("votes"), int):
        raise RunError(f"{folder / MANIFEST}: the manifest is damaged", "restore it, or take the judge's folder away")
    return settings


def combine(name: str, records: Iterable[Mapping[str, Any]]) -> tuple[list[Vote], JudgeStats]:
    """Combine answers into votes.

    Args:
        name: Of the judge.
        records: Newest lines of `votes.jsonl`.
    """
    records = list(records)
    came = [record for record in records if "error" not in record]
    asked: dict[tuple[str, ...], dict[tuple[str, ...], list[str | int]]] = {}
    for record in records:
        shown = tuple(record["shown"])
        about = (record["item"], record["aspect"], *(shown if len(shown) == 1 else ()))
        answers = asked.setdefault(about, {}).setdefault(shown, [])
        if record.get("answer") is not None:
            answers.append(_chosen(record["answer"], shown))
    votes, pairs, flips = [], 0, 0
    for (item, aspect, *reply), orders in asked.items():
        if reply and (ratings := orders[tuple(reply)]):
            # Between two numbers it rounds to the even one, which is neither high nor low on the whole.
            votes.append(Vote(name, item, aspect, round(median(map(int, ratings))), reply[0], kind="judge"))
        elif len(orders) == 2 and all(orders.values()):
            one, other = map(_majority, orders.values())
            pairs, flips = pairs + 1, flips + (one != other)
            votes.append(Vote(name, item, aspect, one if one == other else TIE, kind="judge"))
    stats = JudgeStats(
        answers=len(came),
        unparsable=sum(record.get("answer") is None for record in came),
        failed=len(records) - len(came),
        votes=len(votes),
        missing=len(asked) - len(votes),
        pairs=pairs,
        flips=flips,
        choices=sum(record.get("answer") in ("A", "B") for record in came),
        first=sum(record.get("answer") == "A" for record in came),
        prompt_tokens=_total(record.get("prompt_tokens") for record in came),
        completion_tokens=_total(record.get("completion_tokens") for record in came),
        cost=_total(record.get("cost") for record in came),
        thinking_tokens=_total(thinking_tokens(record) for record in came),
        notes=tuple(dict.fromkeys(note for record in came for note in record.get("notes", ()))),
    )
    return votes, stats


def _total(amounts: Iterable[N | None]) -> N | None:
    """Return the sum; None if any amount is unknown."""
    known = list(amounts)
    return None if None in known else sum(amount for amount in known if amount is not None)


def _chosen(answer: str | int, shown: tuple[str, ...]) -> str | int:
    """A reply's key for "A" and "B"; ties and numbers as they are."""
    return shown["AB".index(answer)] if answer in ("A", "B") else answer


def _majority(answers: Sequence[str | int]) -> str | int:
    (first, most), *others = Counter(answers).most_common(2)
    return TIE if others and others[0][1] == most else first
