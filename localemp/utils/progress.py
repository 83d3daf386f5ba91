"""Progress of long tasks: the library calls `on_progress`; the caller displays it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of one task.

    Attributes:
        task: Name of the task, such as "Answering" or "downloading all-mpnet-base-v2".
        done: Finished units.
        total: All units; None if unknown.
        unit: "bytes", "dialogues", "texts", ...; empty if nothing is counted.
        detail: Further text for display, such as a speed or failures.
        row: The row of an experiment that this is about; empty for all of it.
        failed: How many of the finished units have an error.
    """

    task: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    detail: str = ""
    row: str = ""
    failed: int = 0


OnProgress = Callable[[Progress], None]
"""A progress callback. It is called from the working thread and should return quickly."""


def silent(progress: Progress, /) -> None:
    """A progress callback that does nothing."""


@contextmanager
def watched(folder: Path, task: str, total: int | None, on_progress: OnProgress) -> Iterator[None]:
    """Report twice a second how many bytes have been added to `folder`, by any process."""
    finished = threading.Event()
    before = bytes_in(folder)

    def report(done: int) -> None:
        on_progress(Progress(task, done, total, "bytes"))

    def watch() -> None:
        while not finished.wait(0.5):
            report(bytes_in(folder) - before)

    report(0)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    report(bytes_in(folder) - before)


@asynccontextmanager
async def each_second(show: Callable[[], None]) -> AsyncIterator[None]:
    """Call `show` once a second, for progress that nothing else reports."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(1)
            show()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes; 0 if it does not exist."""
    size = 0
    # Folders that disappear meanwhile are skipped.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # moved or deleted since it was listed, or a link to nothing
                size += Path(place, name).stat().st_size
    return size
