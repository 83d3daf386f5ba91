"""The micro-batcher: combines single awaited items into batches, which run off the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class MicroBatcher(Generic[T, R]):
    """Collects items that are submitted one by one, and processes them in batches.

    One batch runs at a time, in a separate thread, while the next one fills up. Only the first batch after a pause is
    delayed, by at most `max_wait` seconds. The batcher belongs to the event loop that submits to it; another loop may
    use it when no item is waiting.

    Args:
        handle: Processes up to `max_batch` items; returns one result for each, in order.
        max_batch: Most items in a batch.
        max_wait: Longest delay of the first batch, in seconds.
    """

    def __init__(
        self, handle: Callable[[Sequence[T]], Sequence[R]], max_batch: int = 64, max_wait: float = 0.002
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; it must be at least 1")
        self._handle, self._max_batch, self._max_wait = handle, max_batch, max_wait
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of items that are not in a batch yet."""
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        """Submit an item, and return its result.

        Raises:
            RuntimeError: The batcher is closed or in use by another event loop, or `handle` returned a wrong number
                of results.
            Exception: Whatever `handle` raised for the batch with the item.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the batcher is closed")
        if self._worker is None:
            self._full = asyncio.Event()
            self._worker = loop.create_task(self._work())
        elif self._worker.get_loop() is not loop:
            raise RuntimeError("the batcher is busy with items of another event loop")
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, result))
        if len(self._waiting) >= self._max_batch:
            self._full.set()
        return await result

    async def close(self) -> None:
        """Finish the submitted items, and accept no more."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker])
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        """Process batches as long as items are waiting."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._max_wait)
            while batch := self._next_batch():
                await self._answer(batch)
        finally:  # cancelled only when its loop shuts down; then no submitter may wait forever
            for _, result in (*batch, *self._waiting):
                result.cancel()
            self._waiting.clear()
            self._worker = None

    def _next_batch(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._max_batch:
            item, result = self._waiting.popleft()
            if not result.done():  # its submitter was cancelled
                batch.append((item, result))
        return batch

    async def _answer(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        items = [item for item, _ in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._handle, items)
            if len(results) != len(items):
                raise RuntimeError(f"{len(results)} results for a batch of {len(items)} items")
        except Exception as error:
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), value in zip(batch, results, strict=True):
            if not result.done():
                result.set_result(value)
