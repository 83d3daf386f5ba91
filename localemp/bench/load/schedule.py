"""Two ways to load a server: requests that arrive at a rate whatever it does, and so many at once.

At a rate (an open loop), requests are sent at their time, whether or not earlier ones are answered, as users do who
know nothing of one another: waiting grows without bound where the server is too slow. So many at once (a closed loop),
each answer makes room for the next request: the server sets the pace, and what is measured is how much it gets done.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar

from localemp.bench.load.client import Answer

T = TypeVar("T")


def arrivals(rate: float, count: int, seed: object) -> list[float]:
    """When requests of a Poisson process arrive: the gaps between them are exponential.

    Args:
        rate: Requests a second on average; infinite means all at once.
        count: How many requests.
        seed: The same seed gives the same times.

    Returns:
        Seconds after the start, ascending.
    """
    if math.isinf(rate):
        return [0.0] * count
    draw, now, times = random.Random(str(seed)), 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        times.append(now)
    return times


class Load(Generic[T]):
    """Requests of a server, sent in one of the two ways, and what came of them, which is kept whatever happens.

    Args:
        ask: Does one job.
        time_limit: Seconds after which what is unfinished is cancelled; None waits for all.

    Attributes:
        answers: In the order in which they came.
        sent: Requests that were begun.
        seconds: From the start to the last answer, or to the time limit.
        own_share: What this process computed meanwhile, as a share of one core.
        stopped: Whether somebody stopped it (Ctrl-C).
    """

    def __init__(self, ask: Callable[[T], Awaitable[Answer]], time_limit: float | None = None) -> None:
        self.answers: list[Answer] = []
        self.sent, self.seconds, self.own_share, self.stopped = 0, 0.0, 0.0, False
        self._ask, self._time_limit = ask, time_limit

    @property
    def timed_out(self) -> int:
        """Requests that the time limit cut off."""
        return 0 if self.stopped else self.sent - len(self.answers)

    @property
    def failed(self) -> int:
        """Requests without a whole reply."""
        return self.timed_out + sum(not answer.good for answer in self.answers)

    async def closed_loop(self, jobs: Iterable[T], count: int) -> Self:
        """Do all jobs, so many at a time: a new one begins when one ends."""
        waiting = iter(jobs)

        async def work() -> None:
            for job in waiting:
                await self._one(job)

        return await self._run([work() for _ in range(count)])

    async def open_loop(self, jobs: Iterable[T], times: Sequence[float]) -> Self:
        """Begin each job at its time, in seconds from now."""
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def later(job: T, when: float) -> None:
            await asyncio.sleep(started + when - loop.time())
            await self._one(job)

        return await self._run([later(job, when) for job, when in zip(jobs, times, strict=True)])

    async def _one(self, job: T) -> None:
        self.sent += 1
        self.answers.append(await self._ask(job))

    async def _run(self, work: Sequence[Coroutine[Any, Any, None]]) -> Self:
        started, computed = time.perf_counter(), time.process_time()
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._time_limit, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            self.stopped = True
            raise
        finally:
            self.seconds = time.perf_counter() - started
            self.own_share = (time.process_time() - computed) / self.seconds
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        return self
