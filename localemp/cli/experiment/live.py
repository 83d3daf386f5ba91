"""What an experiment shows while it runs: a line a row, the whole, and what the engine does.

On a terminal this is one live table, never higher than the window. In a file it is a plain line when a row ends or the
engine begins something, and else one every half minute.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from threading import Event
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from localemp.cli.display import Display
from localemp.cli.log_lines import EVERY, twice_a_second
from localemp.cli.replies import plain
from localemp.utils.formatting import count, share, size
from localemp.utils.progress import Progress
from localemp.utils.text import one_line

_FRAMES_PER_S = 4
_NO_ROWS = 3  # lines of the display beside rows and the whole: the engine's, what is left out, the cursor's
_FEWEST = 3
_ENOUGH = 10  # answers, before a time left is told: the first ones come all at once, or late
_STOPPING = "Stopping "
_NAMED = 3  # running rows that a line in a file names
_NARROW = 72
_NARROWEST_NAME = 12
_DAY = 24 * 60 * 60
_STATES = {"Checking": "waiting", "Waiting": "waiting", "Finished": "done", "Failed": "failed"}
_WHOLE = {*_STATES, "Answering"}  # what counts all dialogues of a row


class Speed:
    """Units per second over about the last minute, or over the last 60 changes where these take longer."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=60)

    def add(self, done: int, now: float) -> None:
        """Note how many are finished now."""
        if not self._seen or now - self._seen[-1][0] >= 1:
            self._seen.append((now, done))

    def per_s(self, done: int, now: float) -> float | None:
        """The speed; None if it cannot be known yet."""
        began, before = self._seen[0] if self._seen else (now, done)
        return (done - before) / (now - began) if now - began >= 1 and done > before else None

    def seconds_for(self, left: int, done: int, now: float) -> float | None:
        """The time that what is left takes at this speed; None if too few are finished to tell."""
        speed = self.per_s(done, now)
        return left / speed if speed and left and done - self._seen[0][1] >= _ENOUGH else None


@dataclass(slots=True, eq=False)
class _Row:
    """A row, as far as its progress tells.

    Attributes:
        latest: What is done now.
        done, failed, total: Its dialogues, those of an earlier session included.
        before: Done and failed in earlier sessions.
        at: Time of the last answer.
    """

    latest: Progress
    speed: Speed = field(default_factory=Speed)
    done: int = 0
    failed: int = 0
    total: int | None = None
    before: tuple[int, int] = (0, 0)
    at: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will be answered."""
        return self.state in ("done", "failed")

    def count(self, progress: Progress) -> None:
        """Note how many dialogues are done: of all, or while they are answered, of those that had no reply."""
        if progress.total is None:
            return
        if progress.task != "Answering":
            self.done, self.failed, self.total = progress.done, progress.failed, progress.total
            self.before = (progress.done, progress.failed)
            return
        total = self.total if self.total is not None else progress.total
        done, failed = self.before
        retried = done - (total - progress.total)  # failures of an earlier session
        self.done, self.failed, self.total = done - retried + progress.done, failed - retried + progress.failed, total

    @property
    def name(self) -> str:
        return self.latest.row

    @property
    def answering(self) -> bool:
        return self.latest.task == "Answering"

    @property
    def state(self) -> str:
        """One of "waiting", "running", "done", "failed"."""
        if known := _STATES.get(self.latest.task):
            return known
        done, total = (self.done, self.total) if self.answering else (self.latest.done, self.latest.total)
        if total is None or done < total:
            return "running"
        return "done" if self.answering else "waiting"  # all of it is looked up


class ExperimentDisplay(Display):
    """Shows the progress of an experiment on standard error. Use it in a `with` block.

    `Progress` with a row is about that row: "Checking" or "Waiting" before it begins, "Answering" with all of its
    dialogues, then "Finished" or "Failed". Without a row it is about the engine, or what is done afterwards.

    Args:
        now: A clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._rows: dict[str, _Row] = {}
        self._speed = Speed()
        self._asked = 0  # dialogues answered now; rows may have had some before
        self._asked_at = now()
        self._step: Progress | None = None
        self._step_since = now()
        self._table: Live | None = None
        self._spinner = Spinner("dots")
        self._said_at = now()
        self._stop = Event()
        self._said_failures: set[str] = set()
        self._said_steps: set[str] = set()  # scoring does its steps again and again, run by run

    def __enter__(self) -> Self:
        super().__enter__()
        if not self.console.is_terminal:
            self._stop = twice_a_second(self._say_if_due)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        super().__exit__()

    def on_progress(self, progress: Progress) -> None:
        """Show how far a row or the engine has come."""
        if not progress.row and not self._rows:
            super().on_progress(progress)  # before the rows are known: one bar, as of every command
            return
        if self._table is None:
            self._end()
        row = self._rows.get(progress.row)
        afterwards = row is not None and row.ended and progress.task not in _WHOLE  # its replies are scored, say
        if progress.row and not afterwards:
            self._note_row(progress)
        else:
            self._note_step(progress)
        if self.console.is_terminal:
            self._show_table()
        else:
            self._say_if_due()

    def _say_if_due(self) -> None:
        if self._rows and self._now() - self._said_at >= EVERY:
            self._said_at = self._now()
            self.say(self._in_words())

    def _note_row(self, progress: Progress) -> None:
        row = self._rows.setdefault(progress.row, _Row(Progress("Waiting", row=progress.row)))
        state, answering = row.state, row.answering
        before = row.latest.done if answering else 0
        if not answering or progress.task in _WHOLE:  # a lookup of later dialogues goes on beside the answers
            row.latest = progress
        if progress.task in _WHOLE:
            row.count(progress)
        if progress.task == "Answering":
            row.at = self._now()
            others = (each for each in self._rows.values() if each is not row)
            if not answering and not any(each.answering and not each.ended for each in others):
                self._speed = Speed()  # the time of an engine's start is not that of answers
            row.speed.add(row.done, row.at)
            self._asked += progress.done - before
            self._asked_at = row.at
            self._speed.add(self._asked, row.at)
            if not answering and self._step is not None and self._step.total is None:
                self._step = None  # the engine has started
        if progress.task in ("Finished", "Failed") and self._step is not None and self._step.task.startswith(_STOPPING):
            self._step = None  # rows are settled when their engine has stopped
        if row.state != state and row.ended and not self.console.is_terminal:
            self.say(f"{self._ended(row)} ({self._rows_done()})")
        elif row.state != state and row.state == "failed" and progress.detail not in self._said_failures:
            self.say(self._ended(row))  # the table has no room for why, and the end may be hours away
            self._said_failures.add(progress.detail)

    def _note_step(self, progress: Progress) -> None:
        if self._step is None or self._step.task != progress.task:
            self._step_since = self._now()
        self._step = None if progress.total is not None and progress.done >= progress.total else progress
        if progress.task not in self._said_steps and not self.console.is_terminal:
            self.say(f"{progress.task} ...")
            self._said_steps.add(progress.task)

    def _show_table(self) -> None:
        if self._table is None:
            # Not redirected: rich would bring to the terminal what an engine's output, sent to its log, still says.
            self._table = Live(
                console=self.console,
                get_renderable=self._drawn,
                refresh_per_second=_FRAMES_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._table.start()

    def _end(self) -> None:
        super()._end()
        if self._table is not None:
            self._table.stop()
            self._table = None

    def _drawn(self) -> RenderableType:
        """The live table, no higher than the window."""
        rows = list(self._rows.values())
        whole = Text(self._whole(), "bold").wrap(self.console, self.console.width)
        shown = _shown(rows, max(self.console.height - _NO_ROWS - len(whole), _FEWEST))
        cells = [_cells(row, self._now()) for row in shown]
        wide = [max((cell.cell_len for cell in column), default=0) for column in zip(*cells, strict=True)]
        bar = 0 if self.console.width < _NARROW else min(self.console.width // 5, 24)
        room = max(self.console.width - bar - sum(wide) - len(wide) - 2, _NARROWEST_NAME)
        table = Table.grid(
            Column(no_wrap=True, overflow="ellipsis", max_width=room),
            *([Column(width=bar)] if bar else []),
            *(Column(no_wrap=True, justify="right", min_width=each) for each in wide),
            padding=(0, 1),
        )
        for row, beside in zip(shown, cells, strict=True):
            table.add_row(plain(row.name), *([_bar(row)] if bar else []), *beside)
        parts: list[RenderableType] = [self._engine_line(), table]
        if left_out := [row for row in rows if row not in shown]:
            parts.append(Text(f"and {_states(left_out)}", "dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts, whole)

    def _engine_line(self) -> RenderableType:
        step = self._step or Progress(self._meanwhile())
        uncounted = self._step is not None and not step.unit and step.total is None
        how_far = _time(self._now() - self._step_since) if uncounted else _how_far(step)
        self._spinner.update(text=plain(" ".join(filter(None, (step.task, how_far, step.detail)))))
        line = Table.grid(Column(no_wrap=True, overflow="ellipsis"))
        line.add_row(self._spinner)
        return line

    def _meanwhile(self) -> str:
        """What goes on where no step of the engine or of the end is told."""
        rows = list(self._rows.values())
        if all(row.ended for row in rows):
            return "Finishing"
        return "Answering" if any(row.answering for row in rows) else "Preparing"

    def _whole(self) -> str:
        rows, now = list(self._rows.values()), self._now()
        if any(row.latest.task == "Checking" for row in rows):  # there may be more of them
            return f"checking the rows, {rows[-1].name} now"
        done = sum(row.done for row in rows)
        totals = [row.total for row in rows if row.total is not None and row.state != "failed"]
        known = len(totals) == sum(row.state != "failed" for row in rows)
        dialogues = share(done, sum(totals), "dialogue") if known else count(done, "dialogue")
        failed = sum(row.failed for row in rows)
        if not any(row.answering and not row.ended for row in rows):
            now = self._asked_at
        speed = self._speed.per_s(self._asked, now)
        ended = [row.done for row in rows if row.state == "failed"]
        left = sum(totals) - (done - sum(ended))
        seconds = self._speed.seconds_for(left, self._asked, now) if known else None
        told = (
            self._rows_done(),
            f"{dialogues}, {failed} failed" if failed else dialogues,
            f"{speed:.2f}/s" if speed else "",
            f"{_time(seconds)} left" if seconds else "",
        )
        return "; ".join(filter(None, told))

    def _rows_done(self) -> str:
        states = [row.state for row in list(self._rows.values())]
        failed = f", {states.count('failed')} failed" if "failed" in states else ""
        return f"{share(states.count('done'), len(states), 'row')} done{failed}"

    def _in_words(self) -> str:
        running = [row for row in list(self._rows.values()) if row.state == "running"]
        named = [f"{row.name} {_cells(row, self._now())[0].plain}".strip() for row in running[:_NAMED]]
        more = [f"{len(running) - _NAMED} more"] if len(running) > _NAMED else []
        step = [f"{each.task} {_how_far(each)}".strip() for each in [self._step] if each]
        now = "; ".join(filter(None, (*step, ", ".join([*named, *more]))))
        return f"{self._whole()}; now: {now}" if now else self._whole()

    def _ended(self, row: _Row) -> str:
        if row.state == "failed":
            return f"{row.name}: failed: {one_line(row.latest.detail)}"
        replies = share(row.done - row.failed, row.total or row.done, "reply", "replies")
        return f"{row.name}: {replies}" + (f", {row.failed} failed" if row.failed else "")


def _shown(rows: Sequence[_Row], most: int) -> Sequence[_Row]:
    """The rows that fit, in their order: first those that run, then the latest that have ended, then the next ones."""
    if len(rows) <= most:
        return rows
    running = sorted((row for row in rows if row.state == "running"), key=lambda row: not row.answering)
    ended = [row for row in reversed(rows) if row.ended]
    waiting = [row for row in rows if row.state == "waiting"]
    chosen = {row.name for row in [*running, *ended, *waiting][:most]}
    return [row for row in rows if row.name in chosen]


def _states(rows: Iterable[_Row]) -> str:
    """How many rows are in which state: "12 done, 180 waiting"."""
    order = ("running", "done", "failed", "waiting")
    states = sorted((row.state for row in rows), key=order.index)
    numbers = [f"{len(list(group))} {state}" for state, group in groupby(states)]
    return f"{len(states)} more rows: {', '.join(numbers)}" if len(states) > 1 else f"1 more row: {states[0]}"


def _bar(row: _Row) -> ProgressBar:
    done, total = _of(row)
    return ProgressBar(total=total or 1, completed=min(done, total))


def _of(row: _Row) -> tuple[int, int]:
    """How many dialogues are answered, or looked up while that goes on, and of how many; (0, 0) if unknown."""
    looked_up = row.state == "running" and not row.answering
    return (row.latest.done, row.latest.total or 0) if looked_up else (row.done, row.total or 0)


def _cells(row: _Row, now: float) -> tuple[Text, ...]:
    """Done and total, failed, speed, and the time left or the state."""
    failed = Text(f"{row.failed} failed", "yellow") if row.failed else Text()
    speed = row.speed.per_s(row.done, now if row.state == "running" else row.at)
    if row.state == "failed":
        end = Text("failed", "red")
    elif row.state == "running" and not row.answering:
        end = plain(row.latest.task.lower(), "dim")
    elif row.state == "running":
        seconds = None if row.total is None else row.speed.seconds_for(row.total - row.done, row.done, now)
        end = Text(_time(seconds) if seconds else "answering", "" if seconds else "dim")
    else:
        end = Text(row.state, "green" if row.state == "done" else "dim")
    done, total = _of(row)
    return Text(f"{done}/{total}" if total else ""), failed, Text(f"{speed:.2f}/s" if speed else ""), end


def _how_far(progress: Progress) -> str:
    """How far something has come: "3/20", "35 MB of 1.2 GB"; empty where nothing is counted."""
    if progress.total is None and not progress.unit:
        return ""
    if progress.unit == "bytes":
        return size(progress.done) + (f" of {size(progress.total)}" if progress.total else "")
    return f"{progress.done}/{progress.total}" if progress.total is not None else str(progress.done)


def _time(seconds: float) -> str:
    """Return a duration as "0:34", "12:05", "1:02:03" or "3 d 22 h"."""
    if seconds >= _DAY:
        return f"{seconds // _DAY:.0f} d {seconds % _DAY / 3600:.0f} h"
    return str(timedelta(seconds=round(seconds))).removeprefix("0:").removeprefix("0")
