"""What a run has cost, over all of its sessions: read from its lines and its manifest.

A line has the cost of every answer that is behind it. An error's line, and one whose dialogue took more answers than
its stages show, has them under `paid`; requests whose answer was lost on the way, and may have been billed, are under
`unanswered`. What was paid for dialogues that a session left unfinished is in the manifest, in the session's `bill`.
While a session runs, that has the most that would be missing if its process was killed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from localemp.utils.formatting import count, dollars


@dataclass(slots=True)
class Bill:
    """What answers cost, in US dollars by list price, and how many requests may have been billed besides.

    Attributes:
        paid: All answers with a known price.
        failed: The part of it that led to no reply: errors, and dialogues that were left unfinished.
        answers: How many answers these are of.
        unpriced: Answers without a known price.
        unanswered: Requests whose answer was lost on the way.
        at_risk: The most that these have cost, and what sessions that were killed may have paid.
        batched: Ids of the answers of batches, which can arrive again and are billed once.
        tiers: The tiers that the lines were billed in, empty for the ordinary one.
        hosted: Whether a service was asked, so that an answer without a price has cost something.
    """

    paid: float = 0.0
    failed: float = 0.0
    answers: int = 0
    unpriced: int = 0
    unanswered: int = 0
    at_risk: float = 0.0
    batched: set[str] = field(default_factory=set, repr=False, compare=False)
    tiers: set[str] = field(default_factory=set, compare=False)
    hosted: bool = field(default=False, compare=False)

    @property
    def cost(self) -> float | None:
        """What all answers cost; None if one of them has no known price."""
        return None if self.unpriced else self.paid

    @property
    def most(self) -> float:
        """The most that was paid, as far as prices are known."""
        return self.paid + self.at_risk

    def of_what_follows(self) -> "Bill":
        """Return an empty bill for what is paid from now on; the server and its known batch answers are the same."""
        return Bill(batched=set(self.batched), hosted=self.hosted)

    def count(self, cost: float | None, *, failed: bool = False) -> None:
        """Add an answer."""
        self.answers += 1
        if cost is None:
            self.unpriced += 1
        else:
            self.paid += cost
            self.failed += cost if failed else 0.0

    def take(self, record: Mapping[str, Any]) -> None:
        """Add a line of a run or a judge, also one that a later line replaces."""
        for answer, failed in paid_answers(record):
            # An answer of a batch arrives again when its dialogue is asked again, and is billed once.
            name = answer.get("response_id")
            if isinstance(name, str) and name:
                if name in self.batched:
                    continue
                self.batched.add(name)
            cost, tier = answer.get("cost"), answer.get("tier")
            self.tiers.add(tier if isinstance(tier, str) else "")
            self.count(None if cost is None else _number(cost), failed=failed)
        self.lose(record.get("unanswered"))

    def take_session(self, session: Mapping[str, Any]) -> None:
        """Add what a session's lines lack."""
        told = session.get("bill")
        if not isinstance(told, Mapping):
            return
        unfinished = told.get("unfinished")
        if isinstance(unfinished, Mapping):
            paid = _number(unfinished.get("paid"))
            answers, unpriced = (int(_number(unfinished.get(name))) for name in ("answers", "unpriced"))
            self.add(Bill(paid, paid, answers, unpriced))
            self.lose(unfinished.get("unanswered"))
        else:  # it was killed
            self.at_risk += _number(told.get("under_way_at_most"))

    def lose(self, unanswered: Any) -> None:
        """Add requests without an answer, as a line or a session has them."""
        if isinstance(unanswered, Mapping):
            self.unanswered += int(_number(unanswered.get("requests")))
            self.at_risk += _number(unanswered.get("dollars_at_most"))

    def add(self, other: "Bill") -> None:
        """Add the numbers of another bill."""
        for name in ("paid", "failed", "answers", "unpriced", "unanswered", "at_risk"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.hosted = self.hosted or other.hosted

    def lines(self, of: str = "") -> list[str]:
        """Return it in words, a line each; none if nothing was paid.

        Args:
            of: What it is the cost of, such as "the run so far".
        """
        told = []
        if self.paid:
            failed = f", {dollars(self.failed)} of it for replies that failed" if self.failed else ""
            without = f", without {count(self.unpriced, 'answer')} of unknown price" if self.unpriced else ""
            told.append(f"cost{f' of {of}' if of else ''}: {dollars(self.paid)} US dollars{failed}{without}")
        elif self.unpriced and self.hosted:
            told.append(
                f"cost{f' of {of}' if of else ''}: unpriced; no price of {count(self.unpriced, 'answer')} is known"
            )
        if self.unanswered:
            most = f", at most {dollars(self.at_risk)} US dollars" if self.at_risk else ""
            told.append(
                f"{count(self.unanswered, 'request')} got no answer; the service may have billed "
                f"{'it' if self.unanswered == 1 else 'them'}{most}"
            )
        elif self.at_risk:
            told.append(f"a session was killed; it may have paid up to {dollars(self.at_risk)} US dollars more")
        return told

    def record(self) -> dict[str, Any]:
        """Return it for a manifest."""
        return {
            "paid": self.paid,
            "failed": self.failed,
            "answers": self.answers,
            "unpriced": self.unpriced,
            "unanswered": {"requests": self.unanswered, "dollars_at_most": self.at_risk},
        }


def bill_of(lines: Iterable[Mapping[str, Any]], sessions: Iterable[Mapping[str, Any]]) -> Bill:
    """Return the bill of a run.

    Args:
        lines: All of its lines, also those that later ones replace.
        sessions: Those of its manifest.
    """
    bill = Bill()
    for record in lines:
        bill.take(record)
    for session in sessions:
        bill.take_session(session)
    return bill


def paid_answers(record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield the answers behind a line of a run or a judge, and whether each was for nothing; not shared ones."""
    failed = "error" in record
    alone = [record] if "text" in record else []
    for answer in _objects(record.get("stages", alone)):
        if not answer.get("asked_by"):
            yield answer, failed
    for answer in _objects(record.get("paid")):
        yield answer, True


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list in a file that people can edit."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []


def _number(value: Any) -> float:
    """Return a number of a file that people can edit; 0 for anything else."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and 0 <= value < 2**53 else 0.0
