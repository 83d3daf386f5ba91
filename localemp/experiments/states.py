"""Where the rows of an experiment stand, read from its folder; another process may be at work on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from localemp.errors import RunError
from localemp.experiments.folder import MANIFEST, read_experiment
from localemp.runs.journal import outcomes
from localemp.runs.run import RESPONSES
from localemp.utils.locks import is_locked

State = Literal["finished", "running", "waiting", "stopped", "failed", "not started"]


@dataclass(frozen=True, slots=True)
class RowState:
    """Where a row stands.

    Attributes:
        name: Its name.
        model: The model's name.
        strategy: The strategy.
        folder: Its run's folder, which need not exist.
        dialogues: Number of dialogues to answer.
        answered: Replies in the run's file.
        failed: Dialogues with only an error.
        state: "finished" if every dialogue was asked about; "running" while it is answered; "waiting" while a process
            has it open for later; "failed" if an error stopped it, or no dialogue got a reply; "stopped" if there is
            more to answer; "not started" without any line.
        error: What stopped the row, or why its run cannot be read; empty otherwise.
        hint: What to do about the error.
        retry: The command that answers the rest; empty if nothing is missing, or if the row never ended.
        planned: Whether the row is in the plan; a plan that was changed leaves rows behind.
        estimate: What its last answers were estimated to take, as `experiment.json` says; None if it does not.
        truth: What they took.
    """

    name: str
    model: str
    strategy: str
    folder: Path
    dialogues: int
    answered: int
    failed: int
    state: State
    error: str = ""
    hint: str = ""
    retry: str = ""
    planned: bool = True
    estimate: Any = None
    truth: Any = None


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """Where an experiment stands.

    Attributes:
        folder: Its folder.
        name: The plan's name.
        created: When it was begun, as in ISO 8601.
        command: The last command that worked on it.
        rows: Its rows, those of the plan first.
        running: Whether a process works on it.
    """

    folder: Path
    name: str
    created: str
    command: str
    rows: tuple[RowState, ...]
    running: bool


def show(folder: str | PathLike[str]) -> ExperimentState:
    """Return where an experiment stands; nothing is changed.

    Raises:
        RunError: The folder is not an experiment, or `experiment.json` is damaged. A run that is damaged is its row's
            error.
    """
    folder = Path(folder)
    manifest, running = read_experiment(folder), is_locked(folder)
    sessions = manifest["sessions"]
    return ExperimentState(
        folder,
        manifest["name"],
        manifest["created"],
        sessions[-1]["command"] if sessions else "",
        tuple(_state(folder / row["folder"], row, running) for row in manifest["rows"]),
        running,
    )


def list_experiments(parent: str | PathLike[str]) -> Iterator[Path]:
    """Yield the folders of experiments directly in a folder, by name."""
    yield from sorted(path.parent for path in Path(parent).glob(f"*/{MANIFEST}"))


def _state(folder: Path, row: dict[str, Any], is_experiment_running: bool) -> RowState:
    error, hint, answered, failed = row["error"], row["hint"], 0, 0
    try:
        lines = list(outcomes(folder / RESPONSES).values())
        answered, failed = lines.count(True), lines.count(False)
    except RunError as damage:
        error, hint = damage.message, damage.hint
    state: State
    if is_locked(folder / RESPONSES):
        state = "waiting" if is_experiment_running and not row["begun"] else "running"
    elif error or (failed and not answered):
        state = "failed"
    elif not answered:
        state = "not started"
    else:
        state = "finished" if answered + failed >= row["dialogues"] else "stopped"
    return RowState(
        name=row["name"],
        model=row["model"],
        strategy=row["strategy"],
        folder=folder,
        dialogues=row["dialogues"],
        answered=answered,
        failed=failed,
        state=state,
        error=error,
        hint=hint,
        retry=row["retry"],
        planned=row["planned"],
        estimate=row.get("estimate"),
        truth=row.get("truth"),
    )
