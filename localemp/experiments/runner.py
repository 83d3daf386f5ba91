"""Answers the rows of an experiment: one engine for each model, on which all of the model's rows are in flight.

Models that run here follow one another; those on servers are asked at the same time. What fails, fails alone: a row
does not stop the other rows, nor a model the other models.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from localemp.engines.budget import Budget
from localemp.errors import BudgetError, LocalempError, OptionError
from localemp.experiments.checks import build_batches, check_all
from localemp.experiments.folder import ExperimentFolder, file_name, now, run_folders
from localemp.experiments.reuse import copy_run
from localemp.experiments.rows import ExperimentRow, RowResult
from localemp.pipeline.batch import Batch
from localemp.pipeline.going_on import command_with, needed_in_all
from localemp.pipeline.ray_driver import answer_batches_on_cluster
from localemp.pipeline.schedule import PlanObserver, answer_batches
from localemp.runs.journal import outcomes
from localemp.runs.run import Run
from localemp.utils.files import raise_file_limit
from localemp.utils.formatting import share
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import redact_text, shown_command

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelRows:
    """The rows of one model, which share an engine.

    Attributes:
        name: The model's name.
        batches: Their batches, all opened.
        log: File for the engine's output.
    """

    name: str
    batches: tuple[Batch, ...]
    log: Path

    @property
    def runs_here(self) -> bool:
        """Whether the model runs in this process."""
        return self.batches[0].pipeline.runs_here

    @property
    def fits_cluster(self) -> bool:
        """Whether the model can run on a Ray cluster; one on a server cannot."""
        return self.runs_here or self.batches[0].pipeline.config.script is not None

    @property
    def pending(self) -> list[Batch]:
        """The batches with something to answer."""
        return [batch for batch in self.batches if batch.pending]


class Runner:
    """Answers the rows of an experiment, inside a `with` block: it checks all rows, locks the folder, opens the runs.

    Args:
        rows: The rows, with distinct names.
        path: The experiment's folder, which need not exist.
        name: The plan's name.
        plan: The plan as it was read, as JSON values.
        retry_errors: Whether to retry dialogues that failed before.
        budget: What all rows may cost together; None for no limit.
        on_progress: Called with every step. `Progress.row` names the row; without one it is about all of them. A row's
            task is "Checking", "Waiting", "Answering", then "Finished" or "Failed", once.
        observe: Returns what sees the prompts of a model's batches before its engine starts, for an estimate.

    Attributes:
        batches: One for each row; rows of the same settings have the same one.
        runs: The batches, each once.
        models: The same batches by engine, in the order in which models that run here follow one another.
        folder: The experiment's folder, once it is open.
    """

    def __init__(
        self,
        rows: Sequence[ExperimentRow],
        path: Path,
        name: str,
        plan: Mapping[str, Any],
        *,
        retry_errors: bool = False,
        budget: Budget | None = None,
        on_progress: OnProgress = silent,
        observe: Callable[[Sequence[Batch]], PlanObserver] | None = None,
    ) -> None:
        self.observe = observe
        self.rows, self.path, self.name, self.plan = rows, path, name, plan
        self.retry_errors, self.budget, self.on_progress = retry_errors, budget, on_progress
        self.batches: list[Batch] = []
        self.runs: list[Batch] = []
        self.models: list[ModelRows] = []
        self._stack = ExitStack()
        self._done: list[ModelRows] = []

    def __enter__(self) -> Self:
        """Check all rows, and open their runs.

        Raises:
            LocalempError: Something is wrong with one or more rows; names them. No engine was started.
        """
        with self._stack:
            ExperimentFolder.check_place(self.path)
            # A new folder is made when all rows are known to be right; one that exists is locked first.
            is_new = not self.path.exists()
            if not is_new:
                self._open_folder()
            self.batches = build_batches(self.rows, self.on_progress, self.budget)
            self.runs = list(dict.fromkeys(self.batches))
            self.models = self._by_engine()
            if is_new:
                self._check_servers([batch for batch in self.runs if not batch.folder.exists()])
                self._open_folder()
            raise_file_limit()  # every run is a file that stays open
            copied = self._choose_folders()
            check_all([((batch.name,), batch) for batch in self.runs], self._open)
            self._check_servers([batch for batch in self.runs if batch.pending])
            self._log_resumed()
            if note := self.runs[0].sample_note:
                _log.info("note: %s", note)
            rows = [self._entry(row, batch, copied[batch]) for row, batch in zip(self.rows, self.batches, strict=True)]
            self.folder.begin(self.name, self.plan, rows)
            for batch in self.runs:
                self._report(batch, "Waiting" if batch.pending else "Finished")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the runs and the folder."""
        self._stack.close()

    @property
    def pending(self) -> bool:
        """Whether there is anything to answer."""
        return any(batch.pending for batch in self.batches)

    async def run(self) -> None:
        """Answer all rows that are not settled yet. What stops a row is kept as its error; other rows go on.

        Raises:
            asyncio.CancelledError: The task was cancelled, as by Ctrl-C. Finished replies are in the runs.
        """
        models = self._unsettled()
        try:
            async with asyncio.TaskGroup() as tasks:
                for model in models:
                    if not model.runs_here:
                        tasks.create_task(self._answer(model))
                tasks.create_task(self._in_turn([model for model in models if model.runs_here]))
        except ExceptionGroup as faults:  # of `on_progress`; models keep theirs
            raise faults.exceptions[0] from None

    def run_on_cluster(self, address: str, actors: int | None = None) -> None:
        """Answer the rows of all models but those on servers on a Ray cluster, one model after the other.

        Args:
            address: "auto", "local", "HOST:PORT" or "ray://HOST:PORT".
            actors: Engines on the cluster; None for as many as it holds.

        Raises:
            OptionError: All models are on servers.
        """
        if not any(model.fits_cluster for model in self.models):
            raise OptionError("--ray is for models that run on the cluster, and all of these are on servers", "omit it")
        for model in self._unsettled():
            if model.fits_cluster:
                with self._settled(model):
                    log = self.path / "ray.log"
                    answer_batches_on_cluster(model.pending, address, actors, log, self.on_progress)

    def results(self) -> tuple[RowResult, ...]:
        """Return how far each row is now."""
        return tuple(map(self._result, self.rows, self.batches))

    def saved(self) -> str:
        """How many rows are finished and how many replies are saved, read from the runs' files each time."""
        finished = replies = dialogues = 0
        for batch in self.runs:
            written = outcomes(batch.folder / Run.lines)
            if all(dialogue.id in written for dialogue in batch.chosen):
                finished += self.batches.count(batch)
            replies += sum(written.get(dialogue.id, False) for dialogue in batch.chosen)
            dialogues += len(batch.chosen)
        rows, saved = share(finished, len(self.batches), "row"), share(replies, dialogues, "reply", "replies")
        return f"{rows} finished, {saved} saved to {self.path}"

    def _unsettled(self) -> list[ModelRows]:
        """Return the models with rows to answer that were not tried yet."""
        return [model for model in self.models if model.pending and model not in self._done]

    def _choose_folders(self) -> Mapping[Batch, Mapping[str, Any]]:
        """Choose the run's folder of each row, and copy what `generate` has answered with the same settings there."""
        folders = run_folders(self.path, [(batch.name, batch.settings) for batch in self.runs])
        copied: dict[Batch, Mapping[str, Any]] = {}
        for batch, folder in zip(self.runs, folders, strict=True):
            default, batch.folder = batch.folder, folder
            batch.facts = {"experiment": str(self.path), "row": batch.name}
            replies = copy_run(default, folder, batch.settings, batch.name)
            copied[batch] = {"taken_over": {"from": str(default), "replies": replies}} if replies else {}
        return copied

    def _check_servers(self, batches: Sequence[Batch]) -> None:
        """Check, for the models of these batches that are on servers, what can be known before a request."""
        hosted = [[each for each in model.batches if each in batches] for model in self.models if not model.runs_here]
        check_all(
            [([batch.name for batch in rows], rows[0].pipeline) for rows in hosted if rows],
            lambda pipeline: pipeline.engine().check(),
        )

    def _log_resumed(self) -> None:
        dialogues = sum(len(batch.chosen) for batch in self.runs)
        before = sum(batch.answered for batch in self.runs)
        left_out = dialogues - before - sum(len(batch.pending) for batch in self.runs)
        if before or left_out:
            failures = f", {left_out} failed before (--retry-errors asks again)" if left_out else ""
            done = share(before, dialogues, "reply", "replies")
            _log.info("resuming: %s already in %s%s", done, self.path, failures)

    def _open_folder(self) -> None:
        self.folder = self._stack.enter_context(ExperimentFolder.open(self.path))

    def _open(self, batch: Batch) -> None:
        self.on_progress(Progress("Checking", row=batch.name))
        self._stack.enter_context(batch.open(self.retry_errors))
        if not batch.pending:
            batch.opened.close()

    def _by_engine(self) -> list[ModelRows]:
        by_engine: dict[str, list[Batch]] = {}
        for batch in self.runs:
            by_engine.setdefault(batch.pipeline.engine_key, []).append(batch)
        models, logs = [], set()
        for batches in by_engine.values():
            name = batches[0].pipeline.profile.name
            log = next(log for log in _logs(self.path, name) if log not in logs)
            logs.add(log)
            models.append(ModelRows(name, tuple(batches), log))
        return models

    def _entry(self, row: ExperimentRow, batch: Batch, copied: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "name": row.name,
            "row": row.row,
            "model": row.model,
            "strategy": batch.settings["strategy"],
            "folder": self.folder.relative(batch.folder),
            "dialogues": len(batch.chosen),
            "retry": "" if batch.pending else self._result(row, batch).retry,
            **copied,
        }

    async def _in_turn(self, models: Sequence[ModelRows]) -> None:
        """Answer the rows of models that run here, each model's engine closed before the next one starts."""
        for model in models:
            await self._answer(model)

    async def _answer(self, model: ModelRows) -> None:
        """Answer the rows of one model; an error is kept as that of its rows that are not finished."""
        with self._settled(model):
            observer = None if self.observe is None else self.observe(model.pending)
            await answer_batches(model.pending, model.log, self.on_progress, observer)

    @contextmanager
    def _settled(self, model: ModelRows) -> Iterator[None]:
        """Keep the error of this block, and close and record the model's rows after it; Ctrl-C passes."""
        error: LocalempError | None = None
        self.folder.change_rows({batch.folder: {"begun": now()} for batch in model.pending})
        try:
            yield
        except LocalempError as stop:
            error = stop
        except Exception as fault:  # nobody foresaw it; the other models go on
            _log.error("%s: %s: %s", model.name, type(fault).__name__, fault, exc_info=fault)
            error = LocalempError(f"{type(fault).__name__}: {fault}")
        self._done.append(model)
        for batch in model.pending:
            batch.error = batch.error or (error if _is_unfinished(batch) else None)
            batch.opened.close()
        self.folder.change_rows({batch.folder: self._outcome(batch) for batch in model.pending})
        for batch in model.pending:
            reason = "" if batch.error is None else redact_text(batch.error.message)
            self._report(batch, "Failed" if batch.error else "Finished", reason)

    def _outcome(self, batch: Batch) -> dict[str, Any]:
        """Return what `experiment.json` says of a row that was tried."""
        result = self._result(self.rows[self.batches.index(batch)], batch)
        return {"error": result.error, "hint": result.hint, "retry": result.retry, "shared": result.shared}

    def _result(self, row: ExperimentRow, batch: Batch) -> RowResult:
        error = batch.error
        return RowResult(
            row,
            batch.folder,
            dialogues=len(batch.chosen),
            answered=batch.answered,
            failed=batch.failed,
            tally=batch.tally,
            shared=0 if batch.tally is None else batch.tally.shared,
            error="" if error is None else redact_text(error.message),
            hint="" if error is None else redact_text(error.hint),
            retry="" if batch.answered == len(batch.chosen) else self._retry(batch),
            bill=batch.opened.bill,
        )

    def _retry(self, batch: Batch) -> str:
        """Return the command that answers what is missing; with a larger budget, if that stopped it."""
        command = _retry(bool(batch.failed))
        if not isinstance(batch.error, BudgetError):
            return command
        done = sum(each.answered + each.failed for each in self.runs)
        left = sum(len(each.chosen) for each in self.runs) - done
        dearest = max((each.error for each in self.runs if isinstance(each.error, BudgetError)), key=lambda e: e.needed)
        return command_with(needed_in_all(dearest, done, left), command)

    def _report(self, batch: Batch, task: str, detail: str = "") -> None:
        """Report a step of a batch, for each of its rows."""
        done, failed = batch.answered + batch.failed, batch.failed
        for row, of_row in zip(self.rows, self.batches, strict=True):
            if of_row is batch:
                step = Progress(task, done, len(batch.chosen), "dialogues", detail, row=row.name, failed=failed)
                self.on_progress(step)


def _logs(folder: Path, model: str) -> Iterator[Path]:
    name = f"engine-{file_name(model)}"
    yield folder / f"{name}.log"
    yield from (folder / f"{name}-{number}.log" for number in itertools.count(2))


def _is_unfinished(batch: Batch) -> bool:
    """Return whether a dialogue that was to be answered has neither a reply nor an error of this call."""
    return batch.tally is None or batch.tally.done + batch.tally.failed < len(batch.pending)


def _retry(failed: bool) -> str:
    """Return the command, or the call, that answers what is missing."""
    command = shown_command()
    if not command.startswith("localemp "):
        return "the same call" + (" with retry_errors=True" if failed else "")
    return command + (" --retry-errors" if failed and "--retry-errors" not in command else "")
