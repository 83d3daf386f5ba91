"""Progress of long work: the library reports it to a callback, `on_progress`; whoever calls it draws."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one task has come.

    Attributes:
        task: What is being done, such as "Answering" or "downloading all-mpnet-base-v2".
        done: Units that are finished.
        total: Units in all; None where nobody knows.
        unit: What is counted: "bytes", "dialogues", "texts", ...; empty where nothing is, and only time passes.
        detail: More about it, to be shown as it is: a speed, failures.
    """

    task: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    detail: str = ""


OnProgress = Callable[[Progress], None]
"""A progress callback. It is called from the thread that works, so it should return soon."""


def silent(progress: Progress, /) -> None:
    """The progress callback that shows nothing."""


@contextmanager
def watched(folder: Path, task: str, total: int | None, on_progress: OnProgress) -> Iterator[None]:
    """Report twice a second how many bytes have come to lie in `folder`, whoever puts them there."""
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


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is no folder."""
    size = 0
    # Folders that vanish meanwhile are passed over.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # moved or deleted since it was listed, or a link to nothing
                size += Path(place, name).stat().st_size
    return size
