"""When requests are sent: the first in the queue goes as soon as the server's limits allow it.

An engine has a `Lane`, its queue; engines of the same server, model and key share a `Pace`, which decides. As many
requests are in flight as the limits need at the latency seen (Little's law); those that take far longer than others do
not count. Before the first answer only a few are sent. A server that tells no limits is asked as often as engines want,
until it refuses many: `accepted_rate.py` finds the rate that it accepts.
"""

import asyncio
import heapq
import itertools
import math
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from localemp.engines.base import TURN
from localemp.engines.openai.accepted_rate import AcceptedRate
from localemp.engines.openai.limit_headers import read_allowances
from localemp.engines.openai.patience import Patience
from localemp.engines.openai.rate_limits import Attempt, Cost, Limits
from localemp.engines.openai.target import Target

MOST_IN_FLIGHT = 256
"""Most requests in flight to a server that tells its limits."""
IN_FLIGHT = 16
"""Most requests in flight of one engine to a server that tells none."""

_FIRST = 4  # requests before the first answer; twice as many after each second
_SPARE, _MORE = 2, 1.25  # requests in flight beyond what Little's law asks for: a number, and a factor
_STUCK = 4.0  # times the usual latency after which a request no longer counts as in flight
_SOON = 1.0  # seconds before which none is stuck
_TICK = 0.001  # seconds between two looks at the queue for the time alone


class _Waiter:
    """A request that waits to be sent."""

    __slots__ = ("cost", "has_place", "sent")

    def __init__(self, cost: Cost, has_place: bool, sent: "asyncio.Future[Attempt]") -> None:
        self.cost, self.has_place, self.sent = cost, has_place, sent


class Lane:
    """The requests of one engine.

    Args:
        pace: Shared by all engines that ask the same model of the same server with the same key.
        most: Most requests in flight; None for as many as the server's limits need.
    """

    def __init__(self, pace: "Pace", most: int | None) -> None:
        self.pace, self._most = pace, most
        self._waiting: list[tuple[bool, int, int, _Waiter]] = []
        self._in_flight = 0
        pace.lanes.append(self)

    def close(self) -> None:
        """Leave the pace."""
        self.pace.leave(self)

    @property
    def first(self) -> tuple[bool, int, int, _Waiter] | None:
        """The next request that has a place in flight, or for which there is one; None if there is none."""
        while self._waiting and self._waiting[0][3].sent.done():  # cancelled
            heapq.heappop(self._waiting)
        if not self._waiting:
            return None
        free = self._in_flight < (self._most or (MOST_IN_FLIGHT if self.pace.limits else IN_FLIGHT))
        return self._waiting[0] if free or self._waiting[0][3].has_place else None

    def pop(self) -> _Waiter:
        """Take the first request out of the queue."""
        waiter = heapq.heappop(self._waiting)[3]
        self._in_flight += not waiter.has_place
        return waiter

    def beginning(self) -> int:
        """Return how many requests may be sent before the first answer."""
        return max(_FIRST, (self._most or 0) // 4)

    @asynccontextmanager
    async def request(self, cost: Cost) -> AsyncIterator["Sending"]:
        """Keep a place in flight from the first attempt to the end of the block."""
        sending = Sending(self, cost)
        try:
            yield sending
        finally:
            self._in_flight -= sending.has_place
            sending.end()

    async def turn(self, cost: Cost, order: int, *, has_place: bool) -> Attempt:
        """Wait until a request may be sent: those of dialogues that began earlier (`TURN`) are sent first."""
        waiter = _Waiter(cost, has_place, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, (not has_place, TURN.get(), order, waiter))
        self.pace.advance()
        try:
            return await waiter.sent
        except asyncio.CancelledError:
            if waiter.sent.done() and not waiter.sent.cancelled():  # its turn had come just then
                self._in_flight -= not has_place
                self.pace.end(waiter.sent.result())
            raise


class Sending:
    """A request with all its attempts.

    Attributes:
        has_place: Whether it is in flight, also while it waits for a further attempt.
    """

    def __init__(self, lane: Lane, cost: Cost) -> None:
        self._lane, self._pace, self._cost = lane, lane.pace, cost
        self._order = lane.pace.next_order()
        self._attempt: Attempt | None = None
        self._answers = self._lates = 0
        self.has_place = False

    async def attempt(self) -> None:
        """Wait for the turn of an attempt."""
        self._attempt = await self._lane.turn(self._cost, self._order, has_place=self.has_place)
        self.has_place, self._answers = True, self._pace.answers

    def patience(self, most: float) -> float:
        """Return the seconds after which an answer to this attempt is no longer expected.

        Args:
            most: The longest.
        """
        return self._pace.patience.seconds(self._cost, most, self._lates)

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take in an answer."""
        assert self._attempt is not None
        self._pace.answered(self._attempt, headers)

    def failed(self, headers: Mapping[str, str], *, late: bool) -> None:
        """Take in a failure: an error, or that no answer came in time."""
        assert self._attempt is not None
        self._lates += late
        self._pace.failed(self._attempt, headers, late=late)
        self.end()

    @asynccontextmanager
    async def refused(self, headers: Mapping[str, str], seconds: float, *, named: bool) -> AsyncIterator[None]:
        """Take in a refusal by a limit; inside the block all requests wait if they have to.

        They have to if the server has named the time, unless its headers show that no limit is used up and few requests
        are refused: then it was about this one.

        Args:
            headers: Of the response.
            seconds: How long the block takes.
            named: Whether the server has named the time.
        """
        assert self._attempt is not None
        all_wait = self._pace.refused(self._attempt, headers, named=named)
        if all_wait:
            self._pace.begin_pause(seconds)
        self.end()
        try:
            yield
        finally:
            if all_wait:
                self._pace.end_pause()

    def end(self) -> None:
        """End the attempt, whatever became of it."""
        if self._attempt is not None:
            self._pace.end(self._attempt)
        self._attempt = None

    @property
    def others_answered(self) -> bool:
        """Whether other requests were answered since the last attempt was sent."""
        return self._pace.answers > self._answers


class Pace:
    """The pace at which one model of one server is asked with one key.

    Args:
        clock: The time in seconds.
        wall: Seconds since 1970.
        sleep: Waits for the next request's time.

    Attributes:
        limits: What the server's headers say.
        lanes: The engines that share the pace.
        answers: The number of answers so far.
        patience: How long an answer is waited for.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self.limits = Limits()
        self.lanes: list[Lane] = []
        self.answers = 0
        self.patience = Patience()
        self._orders = itertools.count()
        self._under_way: dict[int, Attempt] = {}  # in the order of sending
        self._began: float | None = None
        self._accepted = AcceptedRate()
        self._rising = _FIRST  # requests in flight, which are more with each answer until the limits need no more
        self._pauses, self._until = 0, 0.0
        self._latency: float | None = None
        self._timer: asyncio.Task[None] | None = None
        self._wakes = math.inf

    def next_order(self) -> int:
        """Return the place of a new request in the queue."""
        return next(self._orders)

    def leave(self, lane: Lane) -> None:
        """Take an engine out."""
        if lane in self.lanes:
            self.lanes.remove(lane)
        if not self.lanes and self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes = None, math.inf

    def advance(self) -> None:
        """Send all requests whose time has come, and wait for that of the next one."""
        while True:
            found = [(first[:3], lane) for lane in self.lanes if (first := lane.first) is not None]
            if not found:
                return
            lane = min(found)[1] if len(found) > 1 else found[0][1]
            first = lane.first
            assert first is not None
            now = self._clock()
            wait = self._wait(first[3].cost, now)
            if wait > 0:
                self._wake(now, wait)
                return
            waiter = lane.pop()
            attempt = self.limits.start(waiter.cost, now)
            self._accepted.start(now)
            self._under_way[attempt.number] = attempt
            self._began = now if self._began is None else self._began
            waiter.sent.set_result(attempt)

    def _wait(self, cost: Cost, now: float) -> float:
        """Return the seconds until a request may be sent; infinity if an answer or the end of a pause comes first."""
        if self._pauses:
            return math.inf
        most = self._in_flight_most(now)
        if len(self._under_way) >= most:
            stuck_after = max(_SOON, _STUCK * (self._latency or math.inf))
            counted = [each.started for each in self._under_way.values() if now - each.started < stuck_after]
            if len(counted) >= most:
                changes = counted[0] + stuck_after - now
                if not self.answers and self._began is not None:
                    changes = min(changes, math.floor(now - self._began) + 1 + self._began - now)
                return max(changes, _TICK)
        return max(self.limits.wait(cost, now, len(self._under_way)), self._accepted.wait(now))

    def _in_flight_most(self, now: float) -> float:
        if not self.answers:
            began = now if self._began is None else self._began
            beginning = max((lane.beginning() for lane in self.lanes), default=_FIRST)
            return beginning * 2.0 ** min(20, math.floor(now - began))
        if not self.limits:
            return math.inf
        rate = min(self.limits.rate(now), self._accepted.rate)
        if rate == math.inf:  # the server tells what is left, but not how soon there is more
            return min(self._rising, IN_FLIGHT * len(self.lanes))
        return min(self._rising, MOST_IN_FLIGHT, math.ceil(_MORE * rate * (self._latency or 0.0)) + _SPARE)

    def _wake(self, now: float, wait: float) -> None:
        wait = max(wait, _TICK)
        if wait == math.inf or (self._timer is not None and self._wakes <= now + wait):
            return
        if self._timer is not None:
            self._timer.cancel()

        async def wake() -> None:
            await self._sleep(wait)
            self._timer, self._wakes = None, math.inf
            self.advance()

        self._timer, self._wakes = asyncio.get_running_loop().create_task(wake()), now + wait

    def end(self, attempt: Attempt) -> None:
        """End an attempt, whatever became of it."""
        self._under_way.pop(attempt.number, None)
        self.advance()

    def answered(self, attempt: Attempt, headers: Mapping[str, str]) -> None:
        """Take in an answer."""
        now = self._clock()
        if not self.answers:
            self._rising = max(self._rising, len(self._under_way))
        took = now - attempt.started
        self._latency = took if self._latency is None else 0.9 * self._latency + 0.1 * took
        self.patience.answered(attempt.number, took)
        self._accepted.answered(attempt.started, len(self._under_way))
        self.answers += 1
        self._observe(attempt, headers, now, answered=True)
        self._rising += len(self._under_way) >= self._rising - 1

    def refused(self, attempt: Attempt, headers: Mapping[str, str], *, named: bool) -> bool:
        """Take in a refusal; return whether all requests have to wait; see `Sending.refused`."""
        now = self._clock()
        self._observe(attempt, headers, now, answered=False)
        if self.limits and not self.limits.allow(attempt.cost, now):
            return named
        if not self._accepted.refused(attempt.started, len(self._under_way)):
            return named and not self.limits
        if self.limits and not self.limits.even:  # the headers may be right, but of a longer period than is held to
            self.limits.even = True
            self._accepted.begin_round()
            return False
        self._accepted.slow_down(now)
        return named

    def failed(self, attempt: Attempt, headers: Mapping[str, str], *, late: bool) -> None:
        """Take in another failure, that no answer came in time among them."""
        self.patience.failed(attempt.number, late=late)
        self._observe(attempt, headers, self._clock(), answered=False)

    def _observe(self, attempt: Attempt, headers: Mapping[str, str], now: float, *, answered: bool) -> None:
        self.limits.observe(attempt, read_allowances(headers, self._wall()), now, answered=answered)

    def begin_pause(self, seconds: float) -> None:
        """Send nothing until the end of the pause, which is expected in some seconds."""
        self._pauses += 1
        self._until = max(self._until, self._clock() + seconds)

    def end_pause(self) -> None:
        """Go on, if no other pause lasts."""
        self._pauses -= 1
        self.advance()

    def status(self) -> str:
        """Return what the pace is, and what it is due to; empty if the server has not limited it."""
        now, in_flight = self._clock(), f"{len(self._under_way)} in flight"
        if self._pauses:
            return f"waiting {max(0.0, self._until - now):.0f} s: rate limit"
        limit = self.limits.binding(now)
        if limit is not None:
            return f"{limit} allowed, {in_flight}"
        return f"{60 * self._accepted.rate:,.0f} requests/min, more is refused" if self._accepted else ""


_shared: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakValueDictionary[tuple[str, ...], Pace]]"
_shared = weakref.WeakKeyDictionary()


def shared_pace(target: Target) -> Pace:
    """Return the pace of a target, the same for all engines that ask it in this event loop."""
    of_loop = _shared.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    key = (target.url, target.model, target.key)
    if (pace := of_loop.get(key)) is None:
        pace = of_loop[key] = Pace()
    return pace
