"""How long work tells what it is doing: the library reports bytes, whoever calls it draws."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Called with what is being done, how many bytes of it are done, and of how many (None where nobody knows).
Progress = Callable[[str, int, int | None], None]


def silent(what: str, done: int, total: int | None) -> None:
    """The progress of those who do not want to hear of it."""


@contextmanager
def watched(folder: Path, what: str, total: int | None, progress: Progress) -> Iterator[None]:
    """Report twice a second how many bytes have come to lie in `folder`, whoever puts them there."""
    finished = threading.Event()
    before = bytes_in(folder)

    def watch() -> None:
        while not finished.wait(0.5):
            progress(what, bytes_in(folder) - before, total)

    progress(what, 0, total)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    progress(what, bytes_in(folder) - before, total)


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is no folder."""
    size = 0
    # Folders that vanish meanwhile are passed over.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # moved or deleted since it was listed, or a link to nothing
                size += Path(place, name).stat().st_size
    return size
