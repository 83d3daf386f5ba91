"""The bill of one session of a run: what was paid goes into its lines and its manifest, where `bill.py` reads it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from localemp.engines.spending import Account, Ledger, PaidAnswer
from localemp.runs.bill import Bill, paid_answers
from localemp.runs.journal import Journal


class SessionBill:
    """Writes down what a session of a run, or of a judge, pays.

    Args:
        journal: The run, with the session in its manifest.
        found_again: Whether a rerun finds the answers of unfinished dialogues without paying again, as with batches.
    """

    def __init__(self, journal: Journal, *, found_again: bool = False) -> None:
        self._journal, self._found_again = journal, found_again
        self._ledger = Ledger(announce=None if found_again else self._announce, billed_before=journal.bill.batched)
        self._unfinished, self._announced = Bill(), False

    def finished(self, record: dict[str, Any], account: Account) -> dict[str, Any]:
        """Return a line with what its account has beyond the line's own answers."""
        # Most answers have no id, and equal counts cost the same, whichever of them is meant.
        own = Counter(_key(answer) for answer, _ in paid_answers(record))
        rest: list[PaidAnswer] = []
        for answer in account.answers:
            if own[key := _key(answer.record())]:
                own[key] -= 1
            else:
                rest.append(answer)
        if rest:
            record = record | {"paid": [answer.record() for answer in rest]}
        if account.unanswered:
            record = record | {"unanswered": _unanswered(account)}
        return record

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Return the account of a dialogue that is answered inside the block; an exception leaves it unfinished."""
        with self._ledger.account() as account:
            try:
                yield account
            except BaseException:
                self._left(account)
                raise

    def _left(self, account: Account) -> None:
        for answer in account.answers:
            self._unfinished.count(answer.cost, failed=True)
        self._unfinished.lose(_unanswered(account))

    def end(self, bill: Bill) -> None:
        """Write the session's bill into the manifest.

        Args:
            bill: What its lines cost; what was paid for unfinished dialogues is added.
        """
        bill.add(self._unfinished)
        if not (bill.paid or bill.unanswered or self._announced):
            return
        left = Bill() if self._found_again else self._unfinished
        self._journal.bill.add(left)
        self._journal.change_session({"bill": {**bill.record(), "unfinished": left.record()}})

    def _announce(self, dollars: float) -> None:
        self._announced = True
        self._journal.change_session({"bill": {"under_way_at_most": dollars}})


def _unanswered(account: Account) -> dict[str, Any]:
    return {"requests": account.unanswered, "dollars_at_most": account.at_risk}


def _key(answer: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(answer.get(name) for name in ("prompt_tokens", "completion_tokens", "cost"))
