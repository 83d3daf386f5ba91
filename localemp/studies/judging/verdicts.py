"""Turn a judge's answers into votes, and measure how reliable the judge is.

Models prefer what they see first, or second. Of written answers, a reply therefore wins only if it wins in both orders.
Where the orders disagree, the vote is a tie and counts as a flip.

Of probabilities, the mean of both orders counts: each reply is shown first once, so what its place adds cancels out.
The likelier reply wins. Where a tie is the likeliest, or the replies differ by no more than a margin, the vote is a
tie. A flip is still a pair whose likeliest answer changes with the order.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

from localemp.errors import RunError
from localemp.runs.journal import MANIFEST, newest, outcomes, read_lines, read_manifest
from localemp.runs.judge_answers import VOTES, check_answer
from localemp.runs.run import thinking_tokens
from localemp.studies.judging.prompts import Answers
from localemp.studies.schema import TIE
from localemp.studies.votes import Vote

MEASURED = ("measured", "mass", "first_probability", "confidence")
"""The statistics that only probabilities have."""

N = TypeVar("N", int, float)
ENOUGH_MASS = 0.5  # below this, a judge would mostly write something else than an answer


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
        measured: Answers whose probabilities are known; the following are of these, and None without any.
        mass: Mean probability that the reply begins with an answer at all; also of answers that have too little of it.
        first_probability: Share of the probability of either reply that is of the one shown first.
        confidence: Mean probability of the votes.
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
    measured: int = 0
    mass: float | None = None
    first_probability: float | None = None
    confidence: float | None = None

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


def read_judge(folder: Path) -> list[Vote]:
    """Read a judge's votes, one for each aspect of an item (A/B) or of a reply (rating).

    Raises:
        RunError: A line is damaged.
    """
    records = newest(read_lines(folder / VOTES, check_answer))
    return combine(folder.name, records, _margin(folder, records))[0]


def read_stats(folder: Path, without: Collection[str] = ()) -> JudgeStats:
    """Read the statistics of a judge; raises what `read_judge` raises.

    Args:
        folder: The judge's.
        without: Items that are not counted: attention checks, where the order of replies decides nothing.
    """
    records = newest(read_lines(folder / VOTES, check_answer))
    counted = [record for record in records if record["item"] not in without]
    return combine(folder.name, counted, _margin(folder, counted))[1]


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings that a judge ran with.

    Raises:
        RunError: It has no manifest, or a damaged one.
    """
    settings = read_manifest(folder)["settings"]
    if not isinstance(settings, dict) or not isinstance(settings.get("votes"), int):
        raise RunError(f"{folder / MANIFEST}: the manifest is damaged", "restore it, or take the judge's folder away")
    return settings


def begun_with(folder: Path) -> Answers | None:
    """Return how a judge that has answered is asked; None for one that has not.

    Raises:
        RunError: Its manifest or a line is damaged.
    """
    if not (folder / MANIFEST).exists() or not outcomes(folder / VOTES):
        return None
    return "probabilities" if read_settings(folder).get("answers") == "probabilities" else "written"


def combine(name: str, records: Iterable[Mapping[str, Any]], margin: float = 0.0) -> tuple[list[Vote], JudgeStats]:
    """Combine answers into votes.

    Args:
        name: Of the judge.
        records: Newest lines of `votes.jsonl`.
        margin: How much likelier the better reply has to be, where probabilities are known.
    """
    records = list(records)
    came = [record for record in records if "error" not in record]
    measured = [record for record in came if record.get("probabilities")]
    asked: dict[tuple[str, ...], dict[tuple[str, ...], list[Mapping[str, Any]]]] = {}
    for record in records:
        shown = tuple(record["shown"])
        about = (record["item"], record["aspect"], *(shown if len(shown) == 1 else ()))
        answers = asked.setdefault(about, {}).setdefault(shown, [])
        if record.get("answer") is not None:
            answers.append(record)
    votes, pairs, flips = [], 0, 0
    for (item, aspect, *reply), orders in asked.items():
        if reply and (ratings := orders[tuple(reply)]):
            rating, sure = _rating(ratings)
            votes.append(Vote(name, item, aspect, rating, reply[0], kind="judge", confidence=sure))
        elif len(orders) == 2 and all(orders.values()):
            one, other = (
                _majority([_chosen(each["answer"], shown) for each in said]) for shown, said in orders.items()
            )
            pairs, flips = pairs + 1, flips + (one != other)
            choice, sure = (one if one == other else TIE), None
            if known := _mean_of_orders(orders):
                choice, sure = _preferred(known, margin)
            votes.append(Vote(name, item, aspect, choice, kind="judge", confidence=sure))
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
        measured=len(measured),
        mass=_mean(record.get("choice_mass") for record in came),
        first_probability=_first_probability([each["probabilities"] for each in measured if len(each["shown"]) == 2]),
        confidence=_mean(vote.confidence for vote in votes),
    )
    return votes, stats


def _rating(answers: Sequence[Mapping[str, Any]]) -> tuple[float, float | None]:
    """Return the rating of a reply, and the probability of the likeliest one.

    It is the median of written answers; of probabilities the mean of the scale weighted by them.
    """
    if not all(answer.get("probabilities") for answer in answers):
        # Between two numbers it rounds to the even one, which is neither high nor low on the whole.
        return round(median(int(answer["answer"]) for answer in answers)), None
    known = [answer["probabilities"] for answer in answers]
    expected = fmean(sum(int(rating) * share for rating, share in each.items()) for each in known)
    ratings = [int(rating) for each in known for rating in each]  # their ends bound what was rounded
    return min(max(expected, min(ratings)), max(ratings)), fmean(max(each.values()) for each in known)


def _mean_of_orders(
    orders: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]],
) -> dict[str, float] | None:
    """Return the probability of each reply and of a tie, as the mean of both orders; None if one is not known."""
    if not all(answer.get("probabilities") for answers in orders.values() for answer in answers):
        return None
    sums: dict[str, float] = {}
    for shown, answers in orders.items():
        for answer in answers:
            for choice, share in answer["probabilities"].items():
                chosen = str(_chosen(choice, shown))
                sums[chosen] = sums.get(chosen, 0.0) + share / len(answers) / len(orders)
    return sums


def _preferred(known: Mapping[str, float], margin: float) -> tuple[str, float]:
    """Return the better reply or a tie, and its probability."""
    better, other = sorted((choice for choice in known if choice != TIE), key=known.__getitem__, reverse=True)
    won = known[better] > known[TIE] and known[better] - known[other] > margin
    choice = better if won else TIE
    return choice, min(1.0, known[choice])


def _first_probability(known: Sequence[Mapping[str, float]]) -> float | None:
    first, second = sum(each["A"] for each in known), sum(each["B"] for each in known)
    return first / (first + second) if first + second else None


def _margin(folder: Path, records: Iterable[Mapping[str, Any]]) -> float:
    """Return the margin that a judge was made with, if there are probabilities that it applies to."""
    if not any(record.get("probabilities") for record in records):
        return 0.0
    margin = read_settings(folder).get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1:
        raise RunError(f"{folder / MANIFEST}: the margin is damaged", "restore it, or take the judge's folder away")
    return float(margin)


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


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
