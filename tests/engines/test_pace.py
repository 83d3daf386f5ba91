"""The pace of requests, against the limits of the fake service, in virtual time: an hour takes a second."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hosted.errors import ServiceError
from hosted.faults import Faults
from hosted.limits import Limits, Meter
from virtual_time import run_virtually

from localemp.engines.base import TURN
from localemp.engines.openai.failures import seconds_asked
from localemp.engines.openai.pace import IN_FLIGHT, MOST_IN_FLIGHT, Lane, Pace
from localemp.engines.openai.rate_limits import Cost, cost_of

WORKERS, HANGING = 256, 600.0


@dataclass
class Run:
    """What a server saw.

    Attributes:
        sent: The time of each request.
        answered: The time of each answer.
        refused: Requests that its limits refused.
        most: The most requests in flight.
        statuses: What the pace said of itself at each answer.
    """

    sent: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    refused: int = 0
    in_flight: int = 0
    most: int = 0
    statuses: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.answered[-1]

    def busiest(self, seconds: float) -> int:
        """The most requests that were sent within so many seconds."""
        return max(sum(begin <= time < begin + seconds for time in self.sent) for begin in self.sent)


class Server:
    """Answers after a time, within limits or with headers of its own, and with faults."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        latency: float = 1.0,
        faults: Faults | None = None,
        headers: Callable[[float], Mapping[str, str]] | None = None,
        seed: int = 1,
    ) -> None:
        self.meter, self.latency, self.faults, self._headers = Meter(limits or Limits()), latency, faults, headers
        self.random, self.run = random.Random(seed), Run()

    def headers(self) -> dict[str, str]:
        now = asyncio.get_running_loop().time()
        return dict(self._headers(now)) if self._headers else self.meter.headers()

    async def answer(self, name: int, tries: int, taken: int, patience: float) -> tuple[str, dict[str, str]]:
        """What becomes of an attempt: "answered", "refused", "failed" or "late", and the headers."""
        now = asyncio.get_running_loop().time
        self.run.sent.append(now())
        self.run.in_flight += 1
        self.run.most = max(self.run.most, self.run.in_flight)
        try:
            self.meter.admit("m", taken, now())
            headers, fault = self.headers(), self.faults.of(str(name), tries) if self.faults else None
            if fault == "hang":
                await asyncio.sleep(min(HANGING, patience))
                return "late", {}
            quick = fault in ("rate_limit", "rate_limit_wait", "server_error", "reset")
            await asyncio.sleep(0.05 if quick else self.latency * self.random.uniform(0.7, 1.3))
            if fault is None:
                self.run.answered.append(now())
                return "answered", headers
            if fault.startswith("rate_limit"):
                return "refused", {**headers, **({"retry-after": "1"} if fault == "rate_limit_wait" else {})}
            return "failed", headers if fault == "server_error" else {}
        except ServiceError as error:
            self.run.refused += 1
            await asyncio.sleep(0.05)
            return "refused", error.headers
        finally:
            self.run.in_flight -= 1


async def ask(lane: Lane, server: Server, name: int, cost: Cost, taken: int | None = None) -> None:
    """One request with its retries, as the engine sends it."""
    tries = 0
    taken = server.meter.limits.taken(int(cost.prompt), int(cost.completion)) if taken is None else taken
    async with lane.request(cost) as sending:
        while True:
            await sending.attempt()
            tries += 1
            became, headers = await server.answer(name, tries, taken, sending.patience(HANGING))
            if became == "answered":
                sending.answered(headers)
                server.run.statuses.append(lane.pace.status())
                return
            wait = seconds_asked(headers) or min(8.0, 0.25 * 2**tries)
            if became == "refused":
                async with sending.refused(headers, wait, named="retry-after" in headers):
                    await asyncio.sleep(wait)
            else:
                sending.failed(headers, late=became == "late")
                await asyncio.sleep(wait)


def new_pace() -> Pace:
    clock = asyncio.get_running_loop().time
    return Pace(clock, lambda: 1.8e9 + clock(), asyncio.sleep)


def run(
    server: Server,
    number: int,
    *,
    most: int | None = None,
    cost: Cost | None = None,
    taken: int | None = None,
    workers: int = WORKERS,
) -> Run:
    """Ask for so many answers; returns what the server saw."""

    async def everything() -> None:
        lane, names = Lane(new_pace(), most), iter(range(number))

        async def worker() -> None:
            for name in names:
                await ask(lane, server, name, cost or Cost(300, 128), taken)

        await asyncio.gather(*(worker() for _ in range(min(number, workers))))
        lane.close()

    run_virtually(everything())
    assert len(server.run.answered) == number
    return server.run


def least(limits: Limits, number: int, tokens: int = 300) -> float:
    """The seconds that so many requests take at least, if the limits are full at first."""
    times = [0.0]
    for limit, amount in ((limits.requests, 1), (limits.tokens, tokens)):
        if limit is not None:
            times.append((number * amount - limit * min(1.0, limits.burst / 60)) / limit * 60)
    return max(times)


# What headers tell is used up, and not more


@pytest.mark.parametrize(
    ("limits", "number", "latency"),
    [
        pytest.param(Limits(500), 3000, 1.0, id="requests"),
        pytest.param(Limits(500), 3000, 0.05, id="quick_answers"),
        pytest.param(Limits(500), 3000, 10.0, id="slow_answers"),
        pytest.param(Limits(6000, 200_000), 3000, 1.0, id="tokens"),
        pytest.param(Limits(500, 200_000), 3000, 1.0, id="both"),
        pytest.param(Limits(6000, 200_000, counts="sum"), 2000, 1.0, id="tokens_as_azure_counts"),
        pytest.param(Limits(500, burst=1), 3000, 1.0, id="shorter_periods_than_said"),
        pytest.param(Limits(60), 300, 2.0, id="low_tier"),
        pytest.param(Limits(500, headers="azure"), 3000, 1.0, id="no_reset_times"),
        pytest.param(Limits(500, headers="anthropic"), 3000, 1.0, id="dates_of_reset"),
    ],
)
def test_throughput_is_what_the_limits_allow(limits: Limits, number: int, latency: float) -> None:
    got = run(Server(limits, latency=latency), number)
    tokens = 428 if limits.counts == "sum" else 300
    assert got.seconds <= 1.05 * least(limits, number, tokens) + 2 * latency
    assert got.refused <= number * (0.005 if limits.burst < 60 else 0)


def test_windows_are_used_up_evenly() -> None:
    got = run(Server(Limits(500, refill="window")), 2900)
    assert got.refused == 0
    assert got.seconds <= 60 * math.ceil(2900 / (0.96 * 500))
    assert got.busiest(10) <= 2 * 500 / 6


def test_ten_thousand_with_every_fault() -> None:
    server = Server(limits := Limits(500, 200_000), faults=Faults.all(0.05))
    got = run(server, 10_000)
    assert got.refused == 0
    in_time = got.answered[int(0.99 * len(got.answered))]  # without those that happened to fail again and again
    assert in_time <= 1.05 * least(limits, len(got.sent))


@pytest.mark.parametrize("wrong", [0.4, 2.5])
def test_other_ways_to_count_tokens_are_learnt(wrong: float) -> None:
    limits = Limits(None, 200_000)
    got = run(Server(limits), 2000, cost=Cost(400 * wrong, 0), taken=400)
    assert got.refused <= 20
    assert got.seconds <= 1.05 * least(limits, 2000, 400) + 2


def test_three_requests_a_minute() -> None:
    got = run(Server(Limits(3)), 12)
    assert got.refused <= 1  # before the first answer nothing is known
    assert got.seconds <= 1.05 * least(Limits(3), 12) + 5


def test_another_client_with_the_same_key_is_made_room_for() -> None:
    server = Server(Limits(500))

    async def both() -> None:
        loop = asyncio.get_running_loop()

        async def other() -> None:
            while True:  # half of what is allowed
                server.meter.admit("m", 0, loop.time())
                await asyncio.sleep(60 / 250)

        taken = loop.create_task(other())
        lane = Lane(new_pace(), None)
        await asyncio.gather(*(ask(lane, server, name, Cost(300, 128)) for name in range(1500)))
        taken.cancel()

    run_virtually(both())
    assert server.run.refused <= 15


# In flight


def test_in_flight_are_as_many_as_the_pace_needs() -> None:
    assert run(Server(Limits(600), latency=1.0), 2000).most <= 2 * 10 * 1.25 + 3
    assert run(Server(Limits(600), latency=6.0), 2000).most >= 10 * 6


def test_hung_requests_do_not_hold_up_the_others() -> None:
    server = Server(Limits(600), faults=Faults({"hang": 0.2}))
    got = run(server, 3000)
    assert got.answered[int(0.9 * 3000)] <= 1.05 * least(Limits(600), len(got.sent))


@pytest.mark.parametrize("most", [1, 5, 40])
def test_concurrency_is_the_most(most: int) -> None:
    assert run(Server(Limits(100_000)), 400, most=most).most == most
    assert run(Server(), 400, most=most).most == most


def test_in_flight_are_never_more_than_the_bound() -> None:
    assert run(Server(Limits(1_000_000), latency=20.0), 2000, workers=1000).most <= MOST_IN_FLIGHT


def test_a_server_without_headers_is_asked_as_ever() -> None:
    got = run(Server(), 640)
    assert got.most == IN_FLIGHT
    assert got.seconds <= 640 / IN_FLIGHT * 1.0 + 2.5


def test_a_fresh_key_is_asked_for_little_at_first() -> None:
    server = Server(Limits(500), latency=0.9)
    got = run(server, 300)
    assert sum(time < 0.6 for time in got.sent) == 4
    slow = run(Server(latency=30.0), 64)
    assert sum(time < 3 for time in slow.sent) == IN_FLIGHT


# Without headers


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize(("requests", "number"), [(500, 3000), (60, 500)])
def test_refusals_without_headers_lower_the_pace(requests: int, number: int, counted: bool) -> None:
    limits = Limits(requests, headers="none", rejected_count=counted)
    got = run(Server(limits), number)
    assert got.seconds <= (1.25 if counted else 1.1) * least(limits, number)
    assert got.refused <= 0.2 * number
    assert any(status.endswith(" requests/min, more is refused") for status in got.statuses)


def test_a_limit_that_the_headers_do_not_tell() -> None:
    limits = Limits(500, requests_per_day=1_000_000)  # the headers are those of the day
    got = run(Server(limits), 3000)
    assert got.seconds <= 1.1 * least(limits, 3000)
    assert got.refused <= 600


def test_refusals_by_chance_do_not_lower_the_pace() -> None:
    server = Server(faults=Faults({"rate_limit": 0.05, "rate_limit_wait": 0.02}))
    got = run(server, 3000)
    assert got.seconds <= 2 * 3000 / IN_FLIGHT


def test_all_wait_when_one_is_refused() -> None:
    async def everything() -> list[float]:
        pace, times = new_pace(), []
        lane, now = Lane(pace, None), asyncio.get_running_loop().time

        async def refused_once() -> None:
            async with lane.request(Cost()) as sending:
                await sending.attempt()
                async with sending.refused({}, 20.0, named=True):
                    assert pace.status() == "waiting 20 s: rate limit"
                    await asyncio.sleep(20)
                await sending.attempt()
                times.append(now())
                sending.answered({})

        async def other() -> None:
            async with lane.request(Cost()) as sending:
                await sending.attempt()
                times.append(now())
                sending.answered({})

        await asyncio.gather(refused_once(), *(other() for _ in range(3)))
        await asyncio.gather(refused_once(), *(other() for _ in range(30)))
        return times

    times = run_virtually(everything())
    assert len(times) == 4 + 31
    assert min(times) >= 20
    assert sum(time >= 40 for time in times) >= 31 - IN_FLIGHT  # the others were under way when it was refused


# Hostile headers


def hostile(**told: str) -> Callable[[float], Mapping[str, str]]:
    return lambda now: {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in told.items()}


def jumping(now: float) -> Mapping[str, str]:
    values = random.Random(now)
    return {
        f"x-ratelimit-{field}-{kind}": values.choice(
            ["0", "-1", "7", "nan", "9" * 14, "1e400", "", "3s", "99h", "soon"]
        )
        for field in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    }


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(hostile(limit_requests="nan", remaining_requests="nan", reset_requests="nan"), id="nan"),
        pytest.param(hostile(limit_requests="-5", remaining_requests="-5", reset_requests="-5"), id="negative"),
        pytest.param(hostile(limit_requests="9" * 14, remaining_requests="9" * 14), id="huge"),
        pytest.param(hostile(limit_requests="9" * 400, remaining_requests="9" * 400), id="too_huge"),
        pytest.param(hostile(limit_requests="600", remaining_requests="0", reset_requests="99999h"), id="centuries"),
        pytest.param(hostile(limit_requests="600", remaining_requests="0", reset_requests="700h"), id="a_month"),
        pytest.param(hostile(limit_requests="600", remaining_requests="0"), id="always_used_up"),
        pytest.param(hostile(remaining_requests="0"), id="nothing_left_of_what"),
        pytest.param(hostile(limit_tokens="10", remaining_tokens="10"), id="less_than_one_request"),
        pytest.param(hostile(limit_requests="0", remaining_requests="0", reset_requests="0"), id="zero"),
        pytest.param(hostile(limit_requests="600", remaining_requests="900", reset_requests="-1"), id="contradictory"),
        pytest.param(jumping, id="jumping"),
    ],
)
def test_hostile_headers_neither_stop_nor_storm(headers: Callable[[float], Mapping[str, str]]) -> None:
    server = Server(headers=headers)
    got = run(server, 200)
    assert got.seconds < 300
    assert got.most <= MOST_IN_FLIGHT
    assert got.busiest(0.5) <= 130
    assert all(len(status) < 80 for status in got.statuses)


# Order


def test_dialogues_that_began_first_go_first() -> None:
    async def everything() -> list[int]:
        pace, order = new_pace(), []
        lane = Lane(pace, 1)

        async def one(turn: int) -> None:
            TURN.set(turn)
            async with lane.request(Cost()) as sending:
                await sending.attempt()
                order.append(turn)
                await asyncio.sleep(1)
                sending.answered({})

        await asyncio.gather(*(asyncio.create_task(one(turn)) for turn in (5, 9, 3, 0, 7)))
        return order

    assert run_virtually(everything()) == [5, 0, 3, 7, 9]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def everything() -> None:
        pace = new_pace()
        lane = Lane(pace, 2)
        server = Server(Limits(600))
        tasks = [asyncio.create_task(ask(lane, server, name, Cost())) for name in range(50)]
        await asyncio.sleep(3.3)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(asyncio.gather(*(ask(lane, server, 99, Cost()) for _ in range(10))), 60)
        assert server.run.most == 2
        assert pace.status().endswith("0 in flight")

    run_virtually(everything())


def test_engines_of_the_same_key_share_the_limits() -> None:
    server = Server(Limits(300))

    async def everything() -> None:
        pace = new_pace()
        lanes = [Lane(pace, None), Lane(pace, 3), Lane(pace, None)]
        await asyncio.gather(*(ask(lanes[name % 3], server, name, Cost()) for name in range(900)))

    run_virtually(everything())
    assert server.run.refused == 0
    assert server.run.seconds <= 1.05 * least(Limits(300), 900) + 2


# What is shown, and how long is waited


def test_the_limit_is_shown() -> None:
    assert set(run(Server(), 100).statuses) == {""}
    statuses = run(Server(Limits(500)), 600).statuses
    assert "500 requests/min allowed, 5 in flight" in statuses
    tokens = run(Server(Limits(5000, 30_000)), 200).statuses
    assert any(each.startswith("30,000 tokens/min allowed, ") for each in tokens)
    daily = hostile(limit_requests="10000", remaining_requests="5000", reset_requests="12h")
    assert run(Server(headers=daily), 50).statuses[-1].startswith("10,000 requests/day allowed, ")


def test_patience_depends_on_how_long_answers_take() -> None:
    async def everything() -> None:
        pace, server = new_pace(), Server()
        lane = Lane(pace, None)

        async def after(number: int, latency: float) -> float:
            server.latency = latency
            await asyncio.gather(*(ask(lane, server, name, Cost()) for name in range(number)))
            return pace.patience.seconds(Cost(completion=100), 600.0, 0)

        assert await after(10, 1.0) == 600.0  # not known yet
        assert await after(20, 1.0) == 15.0  # 10 s, and 100 tokens at 20 a second
        assert pace.patience.seconds(Cost(completion=100), 600.0, 2) == 60.0
        assert pace.patience.seconds(Cost(completion=4000), 600.0, 0) == 210.0
        assert pace.patience.seconds(Cost(completion=100), 12.0, 0) == 12.0
        assert 70 <= await after(20, 20.0) <= 130
        for _ in range(20):  # the server has become slow: no request is given up for that
            async with lane.request(Cost()) as sending:
                await sending.attempt()
                sending.failed({}, late=True)
        assert pace.patience.seconds(Cost(completion=100), 600.0, 0) == 600.0

    run_virtually(everything())


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"messages": [{"role": "user", "content": "a" * 400}], "max_tokens": 50}, Cost(104, 50)),
        ({"messages": [{"content": "\u60b2" * 100}] * 2, "max_completion_tokens": 50, "n": 3}, Cost(158, 150)),
        ({"prompt": "a" * 40}, Cost(14, 0)),
        ({"messages": [{"content": None}, 5], "max_tokens": "many", "n": "two"}, Cost(0, 0)),
    ],
    ids=["chat", "several_answers", "completions", "odd"],
)
def test_what_a_request_counts_for(body: dict[str, object], cost: Cost) -> None:
    assert cost_of(body) == cost
    assert math.isfinite(cost.of("tokens"))
