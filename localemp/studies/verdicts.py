"""The votes that follow from a judge's answers, and how little the judge can be trusted.

Models prefer what they see first, or second. So the better reply is the one that is better in both orders; where the
orders disagree the vote is a tie and counts as a flip.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from localemp.runs import read_records
from localemp.studies.study import TIE
from localemp.studies.votes import Vote

VOTES = "votes.jsonl"


@dataclass(frozen=True, slots=True)
class JudgeStats:
    """What is known of a judge; what cannot be known is None.

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
        prompt_tokens, completion_tokens: Of all answers; None where one does not tell.
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

    @property
    def unparsable_share(self) -> float | None:
        """Share of the answers that cannot be read."""
        return self.unparsable / self.answers if self.answers else None

    @property
    def flip_rate(self) -> float | None:
        """How often the order decides: 0 is a judge that is sure, 1 one that only looks at the order."""
        return self.flips / self.pairs if self.pairs else None

    @property
    def first_share(self) -> float | None:
        """Position bias: 0.5 is none, 1 is a judge that always prefers what is shown first."""
        return self.first / self.choices if self.choices else None


def read_judge(folder: Path) -> list[Vote]:
    """A judge's votes, one for each aspect of an item (A/B) or of a reply (rating).

    Raises:
        RunError: A line is damaged.
    """
    return combine(folder.name, read_records(folder, VOTES))[0]


def read_stats(folder: Path, without: Collection[str] = ()) -> JudgeStats:
    """What is known of a judge; raises as `read_judge` does.

    Args:
        folder: The judge's.
        without: Items that are not counted: attention checks, where the order of replies decides nothing.
    """
    return combine(folder.name, [record for record in read_records(folder, VOTES) if record["item"] not in without])[1]


def combine(name: str, records: Iterable[Mapping[str, Any]]) -> tuple[list[Vote], JudgeStats]:
    """Votes from answers.

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
    costs = [record["cost"] for record in came]
    stats = JudgeStats(
        answers=len(came),
        unparsable=sum(record["answer"] is None for record in came),
        failed=len(records) - len(came),
        votes=len(votes),
        missing=len(asked) - len(votes),
        pairs=pairs,
        flips=flips,
        choices=sum(record["answer"] in ("A", "B") for record in came),
        first=sum(record["answer"] == "A" for record in came),
        prompt_tokens=_total(record["prompt_tokens"] for record in came),
        completion_tokens=_total(record["completion_tokens"] for record in came),
        cost=None if None in costs else sum(costs),
        notes=tuple(dict.fromkeys(note for record in came for note in record["notes"])),
    )
    return votes, stats


def _total(counts: Iterable[int | None]) -> int | None:
    counts = list(counts)
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _chosen(answer: str | int, shown: tuple[str, ...]) -> str | int:
    """A reply's key for "A" and "B"; ties and numbers as they are."""
    return shown["AB".index(answer)] if answer in ("A", "B") else answer


def _majority(answers: Sequence[str | int]) -> str | int:
    (first, most), *others = Counter(answers).most_common(2)
    return TIE if others and others[0][1] == most else first
