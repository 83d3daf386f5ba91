"""Progress display for long tasks: one line with a bar or a clock, removed when the task is done.

In a file, progress is plain lines (`log_lines.py`).
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column

from localemp.cli.log_lines import LogLines
from localemp.cli.messages import messages
from localemp.utils.progress import OnProgress, Progress
from localemp.utils.text import for_terminal

_LONGEST_BAR = 40  # characters


def error_console() -> Console:
    """Return a console on standard error that still works while an engine's output goes to its log."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, io.UnsupportedOperation):
        return Console(stderr=True)
    return Console(file=os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace"))


class Display:
    """Progress lines on standard error, and what is logged meanwhile. Use it in a `with` block."""

    def __init__(self) -> None:
        self.console = error_console()
        self._before = messages.say
        self._live: Bar | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._lines = LogLines(self.say)

    def __enter__(self) -> Self:
        messages.say = self.say
        return self

    def __exit__(self, *_: object) -> None:
        messages.say = self._before
        self._end()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)

    def on_progress(self, progress: Progress) -> None:
        """Show how far a task has come: a bar where it is known of how many, else a spinner, or the time alone."""
        if not self.console.is_terminal:
            self._lines.show(progress)
        elif progress.total is None and not progress.unit:
            self._show_time(progress.task)
        elif progress.total is None:
            self._show(progress, SpinnerColumn())
        elif progress.unit == "bytes":
            self._show(progress, DownloadColumn(table_column=Column(no_wrap=True)))
        else:
            self._show(progress, MofNCompleteColumn(table_column=Column(no_wrap=True)))

    @contextmanager
    def clock(self, what: str) -> Iterator[OnProgress]:
        """Show the elapsed seconds, for tasks of unknown length; yields a callback that changes its text."""
        self._end()
        if not self.console.is_terminal:
            self._lines.show(Progress(what))
            yield self._lines.show
            self._end()
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with self._progress(*columns) as live:
            task = live.add_task(escape(for_terminal(what)))
            yield lambda progress: live.update(task, description=escape(for_terminal(progress.task)))

    def _progress(self, *columns: ProgressColumn) -> Bar:
        # Not redirected: rich would bring to the terminal what an engine's output, sent to its log, still says here.
        return Bar(
            *columns,
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _show_time(self, what: str) -> None:
        if self._what == what and self._live is not None:
            return
        self._end()
        self._what = what
        self._live = self._progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._task = self._live.add_task(escape(for_terminal(what)), total=None)
        self._live.start()

    def _show(self, progress: Progress, column: ProgressColumn) -> None:
        what, done, total, detail = progress.task, progress.done, progress.total, escape(for_terminal(progress.detail))
        if self._what == what and self._live is None and done == total:
            return  # said once more that it is finished
        if self._live is None or self._what != what:
            self._end()
            self._live = self._progress(
                TextColumn("{task.description}"),
                BarColumn(min(_LONGEST_BAR, self.console.width // 6)),
                column,
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[detail]}", table_column=Column()),  # goes on in a second line if it is long
            )
            self._what, self._task = what, self._live.add_task(escape(what), total=total, detail=detail)
            self._live.start()
        assert self._task is not None
        self._live.update(self._task, completed=done, total=total, detail=detail)
        if done == total:
            self._end()

    def _end(self) -> None:
        self._lines.end()
        if self._live is not None:
            self._live.stop()
            self._live = self._task = None
