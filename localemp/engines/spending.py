"""What requests cost while they are under way: whose they are, what was billed for them, and what may have been.

A dialogue, or a judge's question, is one `Account`; those of one run share a `Ledger`. A `Request` is one call of an
engine. The engine that talks to the service says when a request is sent (`attempt`) and what its answer costs
(`charge`), whatever becomes of that: it may have no text, or belong to a dialogue that fails later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from localemp.engines.base import STAGE
from localemp.models.price import Counts

_REQUEST: ContextVar["Request | None"] = ContextVar("request", default=None)
_ACCOUNT: ContextVar["Account | None"] = ContextVar("account", default=None)


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """An answer as it was billed.

    Attributes:
        stage: The stage of a strategy that it belongs to; empty outside of strategies.
        finish_reason: As the service has it.
        prompt_tokens, completion_tokens, cached_tokens, thinking_tokens: As in `Completion`.
        cost: US dollars; None if unknown.
        tier: The tier that it was billed in; empty for the ordinary one.
        response_id: The service's id of an answer that can arrive again without being billed again, as those of batches
            do; empty for others.
    """

    stage: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    thinking_tokens: int | None
    cost: float | None
    tier: str = ""
    response_id: str = ""

    def record(self) -> dict[str, Any]:
        """Return it for a line of a journal."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ""} | {
            "cost": self.cost
        }


@dataclass(slots=True)
class Ledger:
    """What the dialogues of one run, or the questions of one judge, cost while they are under way.

    Attributes:
        under_way: The most that unfinished dialogues have cost or will have, in US dollars.
        billed_before: Ids of answers that were billed before, and cost nothing when they arrive again.
        announce: Called with the most that would be missing in the run's lines if the process was killed now, with
            some room, so that it is not called for every request.
    """

    under_way: float = 0.0
    announce: Callable[[float], None] | None = None
    billed_before: Collection[str] = ()
    _announced: float = 0.0

    def add(self, dollars: float) -> None:
        """Add to what is under way."""
        self.under_way += dollars
        if self.announce is not None and self.under_way > self._announced:
            self._announced = 1.25 * self.under_way
            self.announce(self._announced)

    @contextmanager
    def account(self) -> Iterator["Account"]:
        """Return the account of a dialogue that is answered inside the block, its tasks included."""
        account = Account(self)
        token = _ACCOUNT.set(account)
        try:
            yield account
        finally:
            _ACCOUNT.reset(token)
            self.under_way -= account.under_way
            account.asks_no_more()


@dataclass(slots=True)
class Account:
    """What one dialogue, or one question, has cost so far.

    Attributes:
        ledger: That of its run.
        answers: All answers that came.
        unanswered: Requests that were sent, and whose answer was lost on the way; the service may have billed them.
        at_risk: The most that these have cost, in US dollars.
        under_way: The most that all of it has cost or will have.
        asks_no_more: Called when it asks for nothing, as far as it knows: at its end, or while it waits for others.
    """

    ledger: Ledger
    answers: list[PaidAnswer] = field(default_factory=list)
    unanswered: int = 0
    at_risk: float = 0.0
    under_way: float = 0.0
    asks_no_more: Callable[[], None] = lambda: None

    def add(self, dollars: float) -> None:
        """Add to what is under way."""
        self.under_way += dollars
        self.ledger.add(dollars)


class Holder(Protocol):
    """Holds money for requests: a `Budget`."""

    async def hold(self, account: Account, dollars: float) -> None:
        """Hold money for a request of an account, or wait until there is some."""

    def take_over(self, account: Account, dollars: float, spent: float) -> None:
        """Hold money for a request that is under way already, of which some was counted as spent."""

    def try_to_hold(self, account: Account, dollars: float) -> bool:
        """Hold money if there is some now."""

    def spend(self, held: float, dollars: float) -> None:
        """Count what was spent, of what was held or besides."""

    def end(self, held: float) -> None:
        """Release what is still held for a request."""


class NoMoneyNowError(Exception):
    """There is no money for another attempt at the moment; its request waits for some without keeping a slot."""


class Request:
    """One call of an engine, and the money that is held for it.

    Args:
        budget: Where the money is held.
        most: The most that the call can cost, in US dollars; 0 if unknown.
        counted: How much of it was counted as spent, since the request is under way already.

    Attributes:
        account: Whose request it is; one of its own if nobody's.
        answers: What was answered to it.
    """

    def __init__(self, budget: Holder, most: float, counted: float = 0.0) -> None:
        self.budget, self.most, self._counted = budget, most, counted
        found = _ACCOUNT.get()
        self.account, self._alone = found or Account(Ledger()), found is None
        self.answers: list[PaidAnswer] = []
        self._held, self._open = 0.0, False

    @asynccontextmanager
    async def asked(self) -> AsyncIterator["Request"]:
        """Hold money inside the block, where `attempt` and `charge` are about this request.

        Raises:
            BudgetError: There is not enough, and none will come back.
        """
        token = _REQUEST.set(self)
        try:
            if self._counted:
                self.budget.take_over(self.account, self.most, self._counted)
            else:
                await self.budget.hold(self.account, self.most)
            self._take()
            yield self
        finally:
            _REQUEST.reset(token)
            self._end()
            if self._alone:
                self.account.asks_no_more()

    def begin(self) -> None:
        """Begin an attempt, which needs money again if an earlier one may have used it up.

        Raises:
            NoMoneyNowError: There is none.
        """
        if not self._open:
            if not self.budget.try_to_hold(self.account, self.most):
                raise NoMoneyNowError
            self._take()

    def charge(self, answer: PaidAnswer) -> None:
        """Take in an answer; one of unknown cost counts as the most that it can be."""
        self.answers.append(answer)
        self.account.answers.append(answer)
        spent = self.most if answer.cost is None else answer.cost
        if answer.response_id and answer.response_id in self.account.ledger.billed_before:
            spent = 0.0
        part = min(spent, self._held)
        self._held -= part
        self.account.add(spent - part)
        self.budget.spend(part, spent)

    def lose(self) -> None:
        """Count an attempt whose answer was lost; what it may have cost stays spent."""
        held, self._held = self._held, 0.0
        self.account.unanswered += 1
        self.account.at_risk += held
        self.budget.spend(held, held)
        self._end()

    def _take(self) -> None:
        self._held, self._open = self.most, True
        self.account.add(self.most)

    def _end(self) -> None:
        if self._open:
            self.account.add(-self._held)
            self.budget.end(self._held)
            self._held, self._open = 0.0, False


def wait_for_another() -> None:
    """Say that the current account waits for an answer that another one asks for, until it asks itself again.

    Money never comes back once all accounts that may ask wait for it; that one would be waited for in vain.
    """
    if (account := _ACCOUNT.get()) is not None:
        account.asks_no_more()


@contextmanager
def attempt(may_be_billed: Callable[[BaseException], bool]) -> Iterator[None]:
    """Surround one attempt to send a request; a cancelled one may have been billed, too.

    Args:
        may_be_billed: Whether the service may bill an attempt that ended with this error.

    Raises:
        NoMoneyNowError: An earlier attempt may have used up the money that was held.
    """
    if (request := _REQUEST.get()) is None:
        yield
        return
    request.begin()
    try:
        yield
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) or may_be_billed(error):
            request.lose()
        raise


def charge(
    counts: Counts,
    cost: float | None,
    finish_reason: str,
    *,
    thinking_tokens: int | None = None,
    tier: str = "",
    response_id: str = "",
) -> None:
    """Count an answer to the request under way, as soon as its tokens are known; see `PaidAnswer`."""
    if (request := _REQUEST.get()) is not None:
        request.charge(
            PaidAnswer(
                STAGE.get(),
                finish_reason,
                counts.prompt_tokens,
                counts.completion_tokens,
                counts.cached_tokens,
                thinking_tokens,
                cost,
                tier,
                response_id,
            )
        )
