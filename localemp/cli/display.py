"""What a person sees while something takes long: one line with a bar or a clock, gone when it is done."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from localemp.generation import Tally


def error_console() -> Console:
    """A console on standard error that still reaches the person while an engine's output is sent to its log."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, io.UnsupportedOperation):
        return Console(stderr=True)
    return Console(file=os.fdopen(descriptor, "w", buffering=1, encoding="utf-8"))


class Display:
    """Progress lines on standard error. Use it in a `with` block."""

    def __init__(self) -> None:
        self.console = error_console()
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """Progress of something that is fetched or checked."""
        if total is None:
            self._show(what, done, None, SpinnerColumn())
        else:
            self._show(what, done, total, DownloadColumn())

    def rows(self, what: str, done: int, total: int) -> None:
        """Progress of something that is counted."""
        self._show(what, done, total, MofNCompleteColumn())

    def embedding(self, done: int, total: int) -> None:
        """Progress of training dialogues being embedded."""
        self.rows("Embedding", done, total)

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """A line with the seconds since it began, for what has no measure."""
        self._end()
        if not self.console.is_terminal:
            self.console.print(f"{what} ...")
        with Progress(
            SpinnerColumn(), TextColumn(what), TimeElapsedColumn(), console=self.console, transient=True
        ) as live:
            live.add_task("")
            yield

    def tally(self, tally: Tally) -> None:
        """Progress of a batch: done, failed, dialogues and tokens a second, time left."""
        finished = tally.done + tally.failed
        seconds = max(tally.seconds, 1e-9)
        failed = f", [red]{tally.failed} failed[/red]" if tally.failed else ""
        speed = f"{finished / seconds:.2f} dialogues/s, {tally.completion_tokens / seconds:.0f} tokens/s"
        self._show("Answering", finished, tally.total, MofNCompleteColumn(), f"{failed} {speed}")

    def _show(self, what: str, done: int, total: int | None, column: Any, detail: str = "") -> None:
        if self._what == what and self._live is None and done == total:
            return  # said once more that it is finished
        if self._live is None or self._what != what:
            self._end()
            columns = (TextColumn("{task.description}"), BarColumn(), column, TimeRemainingColumn())
            self._live = Progress(
                *columns, TextColumn("{task.fields[detail]}"), console=self.console, transient=self.console.is_terminal
            )
            self._what, self._task = what, self._live.add_task(what, total=total, detail=detail)
            self._live.start()
        assert self._task is not None
        self._live.update(self._task, completed=done, total=total, detail=detail)
        if done == total:
            self._end()

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = self._task = None
