"""A limit to what a command may spend, which is never passed: the most that a request can cost is held beforehand."""

import asyncio
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from localemp.dialogue import Message
from localemp.engines.base import STAGE, TURN, Completion, Engine
from localemp.engines.forwarding import ForwardingEngine
from localemp.engines.spending import Account, NoMoneyNowError, PaidAnswer, Request
from localemp.errors import BudgetError, OptionError
from localemp.models.adapters import Adapter
from localemp.models.price import Price
from localemp.sampling import Sampling

_ROUNDED = 1 + 1e-12  # sums of floats may be off by so much
_AROUND = 16  # most tokens that a service adds around a message, and around all of them


class _Waiting(NamedTuple):
    """A request that waits for money, in the order of the first two fields."""

    turn: int
    number: int
    dollars: float
    granted: "asyncio.Future[None]"


class Budget:
    """Money for all engines of a command.

    Dialogues that began first are served first. While a request is under way, money may come back, since what is held
    for it is more than it usually costs; a request that does not fit waits until then.

    Args:
        limit: US dollars; None for no limit.

    Attributes:
        spent: US dollars so far: what earlier sessions paid, answers, and requests without an answer at their most.
        held: What requests under way may cost.

    Raises:
        OptionError: The limit is not above 0, or not a number.
    """

    def __init__(self, limit: float | None = None) -> None:
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise OptionError(f"--budget {limit:g}: not an amount above 0", "give US dollars, such as --budget 5")
        self.limit = limit
        self.spent = self.held = 0.0
        self._under_way = 0
        self._numbers = itertools.count()
        self._queue: list[_Waiting] = []
        self._active: set[int] = set()  # ids of accounts that have asked, and may ask again
        self._waits: Counter[int] = Counter()  # requests of each that wait

    @classmethod
    def of(cls, budget: "Limit") -> "Budget":
        """Return the budget of a command: one that it shares with others, or one of its own.

        Raises:
            OptionError: As above.
        """
        return budget if isinstance(budget, Budget) else cls(budget)

    @property
    def left(self) -> float | None:
        """What is neither spent nor held; None without a limit."""
        return None if self.limit is None else max(0.0, self.limit - self.spent - self.held)

    def add_earlier(self, dollars: float) -> None:
        """Count what earlier sessions of a run may have cost."""
        self.spent += dollars

    async def hold(self, account: Account, dollars: float) -> None:
        """Hold money for a request, or wait for it.

        Args:
            account: Whose request it is.
            dollars: The most that it can cost.

        Raises:
            BudgetError: There is not enough, and none will come back.
        """
        if self.try_to_hold(account, dollars):
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, _Waiting(TURN.get(), next(self._numbers), dollars, mine))
        self._waits[id(account)] += 1
        self._admit()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self.end(dollars)
            raise
        finally:
            self._waits[id(account)] -= 1
            if not self._waits[id(account)]:
                del self._waits[id(account)]

    def take_over(self, account: Account, dollars: float, spent: float) -> None:
        """Hold money for a request that is under way already.

        Args:
            account: Whose request it is.
            dollars: The most that it can cost.
            spent: How much of that was counted as spent.
        """
        self._join(account)
        self.spent -= spent
        self._take(dollars)

    def try_to_hold(self, account: Account, dollars: float) -> bool:
        """Hold money for a request if there is enough now, and no earlier dialogue waits for it."""
        self._join(account)
        first = self._first()
        if not self._fits(dollars) or (first is not None and first.turn < TURN.get()):
            return False
        self._take(dollars)
        return True

    def spend(self, held: float, dollars: float) -> None:
        """Count what was spent.

        Args:
            held: How much of it was held for it.
            dollars: What was spent.
        """
        self.held -= held
        self.spent += dollars

    def end(self, held: float) -> None:
        """Release what is still held for a request."""
        self._under_way -= 1
        self.held = self.held - held if self._under_way else 0.0  # no rounding errors are left over
        self._admit()

    def _join(self, account: Account) -> None:
        self._active.add(id(account))
        account.asks_no_more = partial(self._leave, id(account))

    def _leave(self, account: int) -> None:
        self._active.discard(account)
        self._admit()

    def _take(self, dollars: float) -> None:
        self.held += dollars
        self._under_way += 1

    def _fits(self, dollars: float) -> bool:
        return self.limit is None or self.spent + self.held + dollars <= self.limit * _ROUNDED

    def _first(self) -> "_Waiting | None":
        while self._queue and self._queue[0].granted.done():
            heapq.heappop(self._queue)
        return self._queue[0] if self._queue else None

    def _admit(self) -> None:
        """Let requests go, in order; once nothing is under way and every dialogue waits, those that do not fit fail."""
        while (first := self._first()) is not None and self._fits(first.dollars):
            self._grant(first)
        if first is None or self._under_way:
            return
        for waiting in sorted(self._queue):  # no money comes back: whatever fits
            if not waiting.granted.done() and self._fits(waiting.dollars):
                self._grant(waiting)
        if self._under_way or self.limit is None or not self._active <= self._waits.keys():
            return
        left = [waiting for waiting in self._queue if not waiting.granted.done()]
        error = BudgetError(self.limit, self.spent, min(waiting.dollars for waiting in left))
        for waiting in left:
            waiting.granted.set_exception(error)

    def _grant(self, waiting: "_Waiting") -> None:
        self._take(waiting.dollars)
        waiting.granted.set_result(None)


@runtime_checkable
class KeepsRequests(Protocol):
    """An engine whose requests may have been sent by an earlier process, as those of batches are."""

    def kept_requests(self) -> Iterator[tuple[Sequence[str], int]]:
        """Yield texts and most tokens of the answers of each request that is under way when it starts."""

    def keeps(self, messages: Sequence[Message], sampling: Sampling, number: int) -> bool:
        """Return whether a request is one of these, once for each."""


Limit = float | Budget | None
"""What a command may spend: US dollars, a budget that it shares with others, or None for no limit."""


class BudgetedEngine(ForwardingEngine):
    """An engine that asks only what a budget allows, and accounts for what is paid.

    Its engine calls `attempt` and `charge` of `spending.py`; of another one's answers, `Completion.cost` counts.

    Args:
        engine: The engine.
        budget: The budget.
        price: Price of the model; None if unknown.
        tier: The tier that requests ask for; None if that is left to the service, "batch" for the Batch API.
        longest: The most tokens of completions if their sampling does not say it.
    """

    def __init__(
        self, engine: Engine, budget: Budget, price: Price | None, tier: str | None = None, longest: int = 0
    ) -> None:
        super().__init__(engine)
        self._budget, self._price, self._tier, self._longest = budget, price, tier, longest
        self.finds_again = tier == "batch"
        self._billed: set[str] = set()
        self._kept = 0.0

    async def start(self) -> None:
        """Start the engine, and count what is under way already as spent, until its answers come."""
        await super().start()
        if self._price is not None and isinstance(self.engine, KeepsRequests):
            self._kept = sum(self._most_of(texts, limit) for texts, limit in self.engine.kept_requests())
            self._budget.spend(0.0, self._kept)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`.

        Raises:
            BudgetError: The budget is too small, also for all other requests that wait.
            EngineError: As the engine raises it.
        """
        (completion,) = await self._ask(messages, sampling, 1)
        return completion

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages; raises as `chat` does."""
        return await self._ask(messages, sampling, number)

    def adapted(self, adapter: Adapter | None) -> Engine:
        """Return the engine as one that asks with an adapter, from the same budget."""
        engine = self.engine.adapted(adapter)
        if engine is self.engine:
            return self
        return BudgetedEngine(engine, self._budget, self._price, self._tier, self._longest)

    async def _ask(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        most, counted = self._most(messages, sampling, number), 0.0
        if self._kept and isinstance(self.engine, KeepsRequests) and self.engine.keeps(messages, sampling, number):
            counted = min(most, self._kept)
            self._kept -= counted
        while True:
            async with Request(self._budget, most, counted).asked() as request:
                try:
                    if number == 1:
                        found = [await self.engine.chat(messages, sampling)]
                    else:
                        found = await self.engine.candidates(messages, sampling, number)
                except NoMoneyNowError:
                    continue
                finally:
                    self._billed.update(answer.tier for answer in request.answers)
                if not request.answers:
                    for each in found:
                        request.charge(_paid(each))
                return found

    def _most(self, messages: Sequence[Message], sampling: Sampling, number: int) -> float:
        """Return the most that a request can cost, also if each of its answers is asked for alone."""
        texts = [message.content for message in messages] + ([sampling.schema] if sampling.schema else [])
        return number * self._most_of(texts, max(sampling.most_tokens, self._longest))

    def _most_of(self, texts: Sequence[str], completion_tokens: int) -> float:
        """Return the most that a request with these texts can cost; 0 if the model has no known price.

        A token has one byte or more, in the alphabets of all services' models.
        """
        if self._price is None:
            return 0.0
        prompt_tokens = sum(len(text.encode()) + _AROUND for text in texts) + _AROUND
        return self._price.most_in(prompt_tokens, completion_tokens, self._tiers()) or 0.0

    def _tiers(self) -> set[str]:
        """Return the tiers that an answer can be billed in, of those with a known price.

        A batch is billed as one. Other requests can fall back to the ordinary tier; where none is asked for, the
        service may have another default, which its first answers tell.
        """
        if self._tier == "batch":
            return {"batch"}
        possible = {"", *self._billed}
        if self._tier is not None:
            possible.add(self._tier)
        elif not self._billed:
            possible |= {"flex", "priority"}
        return {tier for tier in possible if self._price is not None and self._price.rates(tier) is not None}


def _paid(completion: Completion) -> PaidAnswer:
    return PaidAnswer(
        STAGE.get(),
        completion.finish_reason,
        completion.prompt_tokens,
        completion.completion_tokens,
        completion.cached_tokens,
        completion.thinking_tokens,
        completion.cost,
        completion.tier,
    )
