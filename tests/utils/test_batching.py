"""The micro-batcher, with handlers that really run in its thread."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from patience import patience

from localemp.utils.batching import MicroBatcher


class Doubler:
    """Doubles numbers, keeps what batches it saw, and can be held until a test lets it go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.running = self.most_running = 0
        self.started, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.go.wait(patience())
        self.running -= 1
        if -1 in items:
            raise LookupError("-1 is not doubled")
        return [2 * item for item in items]


async def wait_for_start(handle: Doubler) -> None:
    assert await asyncio.to_thread(handle.started.wait, patience())


async def test_each_waiter_gets_its_own_result():
    handle = Doubler()
    batcher = MicroBatcher(handle, max_batch=8)
    assert await asyncio.gather(*map(batcher.submit, range(20))) == [2 * number for number in range(20)]
    assert [len(batch) for batch in handle.batches] == [8, 8, 4]
    assert [item for batch in handle.batches for item in batch] == list(range(20))
    assert handle.most_running == 1
    assert handle.threads.isdisjoint({threading.get_ident()})
    assert len(handle.threads) == 1


async def test_a_full_batch_does_not_wait():
    batcher = MicroBatcher(Doubler(), max_batch=4, max_wait=1_000_000)
    await asyncio.wait_for(asyncio.gather(*map(batcher.submit, range(4))), patience())


async def test_a_lone_item_waits_for_company_and_is_answered_without():
    handle = Doubler()
    batcher = MicroBatcher(handle, max_wait=patience(0.2))
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0.02)
    assert handle.batches == []
    assert await batcher.submit(2) == 4
    assert await first == 2
    assert handle.batches == [[1, 2]]
    assert await batcher.submit(3) == 6
    assert handle.batches == [[1, 2], [3]]


async def test_while_one_batch_runs_the_next_fills_up():
    handle = Doubler()
    handle.go.clear()
    batcher = MicroBatcher(handle, max_batch=64, max_wait=0)
    first = asyncio.create_task(batcher.submit(0))
    await wait_for_start(handle)
    rest = [asyncio.create_task(batcher.submit(number)) for number in range(1, 11)]
    await asyncio.sleep(0.01)
    handle.go.set()
    assert await asyncio.gather(first, *rest) == [2 * number for number in range(11)]
    assert handle.batches == [[0], list(range(1, 11))]


async def test_an_error_reaches_every_waiter_of_its_batch_and_no_other():
    batcher = MicroBatcher(Doubler(), max_batch=2)
    answers = await asyncio.gather(*map(batcher.submit, [1, 2, -1, 4, 5]), return_exceptions=True)
    assert [answers[index] for index in (0, 1, 4)] == [2, 4, 10]
    assert [str(answers[index]) for index in (2, 3)] == ["-1 is not doubled"] * 2
    assert await batcher.submit(6) == 12


@pytest.mark.parametrize("results", [0, 1, 3])
async def test_a_wrong_number_of_results_is_an_error(results: int):
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda items: [7] * results)
    answers = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [str(answer) for answer in answers] == [f"{results} results for a batch of 2 items"] * 2


async def test_a_cancelled_waiter_disturbs_no_other():
    handle = Doubler()
    handle.go.clear()
    batcher = MicroBatcher(handle, max_wait=0)
    running = [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    await wait_for_start(handle)
    queued = [asyncio.create_task(batcher.submit(number)) for number in (3, 4)]
    await asyncio.sleep(0.01)
    running[0].cancel()
    queued[0].cancel()
    handle.go.set()
    answers = await asyncio.gather(*running, *queued, return_exceptions=True)
    assert [answers[1], answers[3]] == [4, 8]
    assert all(isinstance(answers[index], asyncio.CancelledError) for index in (0, 2))
    assert handle.batches == [[1, 2], [4]], "an item that nobody waits for is not handled"


async def test_close_finishes_what_was_submitted_and_takes_nothing_more():
    batcher = MicroBatcher(Doubler(), max_wait=0.05)
    tasks = [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    await batcher.close()
    assert [task.result() for task in tasks] == [2, 4]
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.submit(3)
    await batcher.close()


def test_one_loop_after_another_even_when_the_first_was_cut_short():
    handle = Doubler()
    batcher = MicroBatcher(handle, max_batch=2, max_wait=1_000_000)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.submit(1), 0.01)

    async def two() -> list[int]:
        return list(await asyncio.gather(batcher.submit(2), batcher.submit(3)))

    asyncio.run(give_up())
    assert asyncio.run(two()) == [4, 6]
    assert handle.batches == [[2, 3]]


async def test_two_loops_at_once_are_refused():
    handle = Doubler()
    handle.go.clear()
    batcher = MicroBatcher(handle, max_wait=0)
    mine = asyncio.create_task(batcher.submit(1))
    await wait_for_start(handle)
    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, batcher.submit(2))
    handle.go.set()
    assert await mine == 2


def test_a_batch_of_no_items_is_refused():
    with pytest.raises(ValueError, match="max_batch is 0"):
        MicroBatcher(Doubler(), max_batch=0)
