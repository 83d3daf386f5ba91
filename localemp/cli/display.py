"""What a person sees while something takes long: one line with a bar or a clock, gone when it is done."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from localemp.cli.messages import messages
from localemp.models.profiles import Profile
from localemp.pipeline.generate import Tally
from localemp.utils.text import for_terminal


def error_console() -> Console:
    """A console on standard error that still reaches the person while an engine's output is sent to its log."""
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
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        messages.say = self.say
        return self

    def __exit__(self, *_: object) -> None:
        messages.say = self._before
        self._end()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)

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

    def note_shut_down(self, profile: Profile) -> None:
        """Say so where a provider has switched a model off; it may still answer elsewhere."""
        if profile.is_off:
            self.say(f"note: {profile.name} was announced to be off since {profile.shut_down}")

    @contextmanager
    def clock(self, what: str) -> Iterator[Callable[[str], None]]:
        """A line with the seconds since it began, for what has no measure; what is given takes another text."""
        self._end()
        if not self.console.is_terminal:
            self.say(f"{what} ...")
            shown = what

            def tell(text: str) -> None:
                nonlocal shown
                if text != shown:
                    self.say(f"{text} ...")
                shown = text

            yield tell
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with self._progress(*columns) as live:
            task = live.add_task(escape(for_terminal(what)))
            yield lambda text: live.update(task, description=escape(for_terminal(text)))

    def tally(self, tally: Tally, what: str = "dialogues") -> None:
        """Progress of a batch: done, failed, dialogues (or what it is) and tokens a second, time left."""
        finished = tally.done + tally.failed
        seconds = max(tally.seconds, 1e-9)
        speed = f"{tally.done / seconds:.2f} {what}/s"
        if tally.tokens_per_s is not None:
            speed += f", {tally.tokens_per_s:.0f} tokens/s"
        failed = f", [red]{tally.failed} failed[/red]" if tally.failed else ""
        self._show("Answering", finished, tally.total, MofNCompleteColumn(), speed + failed)

    def _progress(self, *columns: ProgressColumn) -> Progress:
        # Not redirected: rich would bring to the terminal what an engine's output, sent to its log, still says here.
        return Progress(
            *columns,
            console=self.console,
            transient=self.console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _show(self, what: str, done: int, total: int | None, column: Any, detail: str = "") -> None:
        if self._what == what and self._live is None and done == total:
            return  # said once more that it is finished
        if self._live is None or self._what != what:
            self._end()
            columns = (TextColumn("{task.description}"), BarColumn(), column, TimeRemainingColumn())
            self._live = self._progress(*columns, TextColumn("{task.fields[detail]}"))
            self._what, self._task = what, self._live.add_task(escape(what), total=total, detail=detail)
            self._live.start()
        assert self._task is not None
        self._live.update(self._task, completed=done, total=total, detail=detail)
        if done == total:
            self._end()

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = self._task = None
