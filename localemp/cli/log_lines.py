"""Progress as plain lines, for logs such as Slurm's: one each half minute while a task lasts, one at its end."""

import threading
import time
from collections.abc import Callable

from localemp.utils.formatting import duration, size
from localemp.utils.progress import Progress

EVERY = 30.0
"""Seconds between two lines of a task that lasts."""

_SOON = 2.0  # seconds before a speed can be told


class LogLines:
    """Writes lines about the task at hand, also when nothing reports its progress.

    Args:
        say: Prints a line; it is called from another thread, too.
        now: A clock, in seconds.
    """

    def __init__(self, say: Callable[[str], object], now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, now
        self._lock = threading.Lock()
        self._task: Progress | None = None
        self._began = self._said = now()
        self._first = 0  # units that were finished when the task began
        self._ended = ""
        self._stop: threading.Event | None = None

    def show(self, progress: Progress) -> None:
        """Note how far a task has come; what has no units is named at once, all else when it is done or takes long."""
        with self._lock:
            task, same = self._task, self._task is not None and self._task.task == progress.task
            finished = progress.total is not None and progress.done >= progress.total
            if finished and task is None and self._ended == progress.task:
                return  # said once more that it is finished
            if not same:
                self._began, self._first, self._ended = self._now(), progress.done, ""
            self._task = progress
            if not same and not progress.unit and progress.total is None:
                self._tell(f"{progress.task} ...")
            if finished:
                self._tell(self.last_line())
                self._task, self._ended = None, progress.task
            self._watch()

    def tell_if_due(self) -> None:
        """Write a line if the last one is half a minute old."""
        with self._lock:
            if self._task is not None and self._now() - max(self._said, self._began) >= EVERY:
                self._tell(self.line())

    def end(self) -> None:
        """Write nothing more about the task at hand."""
        with self._lock:
            self._task, self._ended = None, ""
            if self._stop is not None:
                self._stop.set()
                self._stop = None

    def line(self) -> str:
        """How far the task has come: "Embedding: 512 of 19,531 texts, 8.1 texts/s, 39 min left"."""
        assert self._task is not None
        task, took = self._task, self._now() - self._began
        if not task.unit and task.total is None:
            return f"{task.task}: {duration(took)}"
        parts, left = [self._units(task)], self._left(task, took)
        parts += [task.detail or self._speed(task, took) or f"{duration(took)} so far"]
        parts += [f"{duration(left)} left"] if left is not None else []
        return f"{task.task}: {', '.join(filter(None, parts))}"

    def last_line(self) -> str:
        """That the task is done: "Embedding: 19,531 of 19,531 texts in 40 min"."""
        assert self._task is not None
        took = duration(self._now() - self._began)
        parts = [f"{self._units(self._task)} in {took}" if self._task.unit else took, self._task.detail]
        return f"{self._task.task}: {', '.join(filter(None, parts))}"

    def _units(self, task: Progress) -> str:
        of = "" if task.total is None else f" of {_amount(task, task.total)}"
        failed = f", {task.failed:,} failed" if task.failed else ""
        return f"{_amount(task, task.done)}{of}{'' if task.unit == 'bytes' else ' ' + task.unit}".rstrip() + failed

    def _speed(self, task: Progress, took: float) -> str:
        if task.done <= self._first or took < _SOON:
            return ""
        speed = (task.done - self._first) / took
        return f"{size(round(speed))}/s" if task.unit == "bytes" else f"{speed:.3g} {task.unit}/s"

    def _left(self, task: Progress, took: float) -> float | None:
        done = task.done - self._first
        if task.total is None or done <= 0 or took < _SOON:
            return None
        return max(0.0, (task.total - task.done) * took / done)

    def _tell(self, line: str) -> None:
        self._said = self._now()
        self._say(line)

    def _watch(self) -> None:
        if self._stop is None:
            self._stop = twice_a_second(self.tell_if_due)


def twice_a_second(call: Callable[[], None]) -> threading.Event:
    """Call a function twice a second until the event is set; without this, a task that hangs would look dead."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            call()

    threading.Thread(target=watch, name="log lines", daemon=True).start()
    return stop


def _amount(task: Progress, number: int) -> str:
    return size(number) if task.unit == "bytes" else f"{number:,}"
