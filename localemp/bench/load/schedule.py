"""Two ways to load a server: at a request rate (open loop), or with a fixed concurrency (closed loop).

In an open loop, requests are sent on schedule whether or not earlier ones are answered, as by independent users: if the
server is too slow, latency grows without bound. In a closed loop, each answer makes room for the next request: the
server sets the pace, and its throughput is measured.
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
    """Return the arrival times of a Poisson process: gaps are exponential.

    Args:
        rate: Mean requests a second; infinite means all at once.
        count: The number of requests.
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
    """Requests sent in one of the two ways, and their answers, which are kept whatever happens.

    Args:
        ask: Sends one request.
        time_limit: Seconds after which unfinished requests are cancelled; None waits for all.

    Attributes:
        answers: The answers, in order of arrival.
        sent: The number of requests sent.
        seconds: From the start to the last answer, or to the time limit.
        own_share: The processor time of this process meanwhile, as a share of one core.
        stopped: Whether the user stopped it (Ctrl-C).
    """

    def __init__(self, ask: Callable[[T], Awaitable[Answer]], time_limit: float | None = None) -> None:
        self.answers: list[Answer] = []
        self.sent, self.seconds, self.own_share, self.stopped = 0, 0.0, 0.0, False
        self._ask, self._time_limit = ask, time_limit

    @property
    def timed_out(self) -> int:
        """Requests cut off by the time limit."""
        return 0 if self.stopped else self.sent - len(self.answers)

    @property
    def failed(self) -> int:
        """Requests without a whole reply."""
        return self.timed_out + sum(not answer.good for answer in self.answers)

    async def closed_loop(self, jobs: Iterable[T], count: int) -> Self:
        """Do all jobs with a fixed concurrency: a new one starts when one ends."""
        waiting = iter(jobs)

        async def work() -> None:
            for job in waiting:
                await self._one(job)

        return await self._run([work() for _ in range(count)])

    async def open_loop(self, jobs: Iterable[T], times: Sequence[float]) -> Self:
        """Start each job at its time, in seconds from now."""
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
