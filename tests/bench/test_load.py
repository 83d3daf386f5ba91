"""Requests at a rate, and so many at once."""

import asyncio
import math
import statistics
import time

import pytest
from patience import patience, wait_until

from localemp.bench.load.client import Answer
from localemp.bench.load.schedule import Load, arrivals


def test_gaps_between_arrivals_are_exponential():
    times = arrivals(5.0, 20_000, seed=1)
    assert times == arrivals(5.0, 20_000, seed=1) != arrivals(5.0, 20_000, seed=2)
    assert times == sorted(times)
    gaps = [late - early for early, late in zip([0.0, *times], times, strict=False)]
    # Of an exponential distribution: mean and standard deviation 1/rate, and 1 - 1/e of it below the mean.
    assert statistics.mean(gaps) == pytest.approx(0.2, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.2, rel=0.03)
    assert sum(gap < 0.2 for gap in gaps) / len(gaps) == pytest.approx(1 - 1 / math.e, abs=0.01)


def test_an_infinite_rate_is_all_at_once():
    assert arrivals(math.inf, 3, seed=0) == [0.0, 0.0, 0.0]


async def answer(seconds: float) -> Answer:
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    return Answer(started, time.perf_counter(), 200, [started])


async def test_at_a_rate_nobody_waits_for_the_answers_of_others():
    last = asyncio.Event()

    async def ask(number: int) -> Answer:
        started = time.perf_counter()
        if number == 2:
            last.set()
        await asyncio.wait_for(last.wait(), patience())
        return Answer(started, time.perf_counter(), 200, [started])

    load = await Load(ask).open_loop([0, 1, 2], [0.0, 0.1, 0.2])
    began = sorted(each.started for each in load.answers)
    assert all(late - began[0] > at - 0.05 for late, at in zip(began, [0.0, 0.1, 0.2], strict=True))
    assert began[-1] - began[0] < load.seconds < began[-1] - began[0] + patience(5)
    assert (load.sent, load.failed) == (3, 0)


async def test_so_many_at_once_are_never_more():
    running, most = 0, 0

    async def ask(seconds: float) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        done = await answer(seconds)
        running -= 1
        return done

    load = await Load(ask).closed_loop([0.01] * 20, 3)
    assert (most, load.sent, len(load.answers)) == (3, 20, 20)
    assert 0 < load.own_share < 1


async def test_what_the_time_limit_cuts_off_has_failed_and_what_was_answered_is_kept():
    load = await Load(answer, time_limit=1.0).closed_loop([0.01, 0.01, 60, 60, 0.01, 60], 2)
    assert (len(load.answers), load.timed_out, load.failed) == (2, 2, 2)
    assert load.sent == 4, "the others were never sent"
    assert 1.0 <= load.seconds < patience(5)


async def test_stopped_by_a_person_it_keeps_what_was_answered_and_blames_no_server():
    load, began = Load(answer), time.perf_counter()
    task = asyncio.create_task(load.closed_loop([0.01, 10_000], 2))
    await asyncio.to_thread(wait_until, lambda: load.answers)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert load.stopped
    assert (len(load.answers), load.failed) == (1, 0)
    assert 0.01 <= load.seconds <= time.perf_counter() - began


async def test_a_mistake_of_our_own_is_no_answer():
    async def ask(_: int) -> Answer:
        raise AttributeError("ours")

    with pytest.raises(AttributeError, match="ours"):
        await Load(ask).closed_loop([1, 2], 1)
