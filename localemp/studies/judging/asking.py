"""One judge, and all that it is asked: what is kept of it, what is left, and one engine for everything."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from localemp.engines.base import Engine
from localemp.errors import BudgetError, FatalEngineError, LocalempError
from localemp.pipeline.generate import Tally
from localemp.pipeline.going_on import say_how
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling
from localemp.studies.judging.judge import Judge, JudgeLog, Question, questions
from localemp.studies.judging.prompts import Answers, JudgePrompts
from localemp.studies.judging.verdicts import begun_with
from localemp.studies.study import Study
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.machine import machine, versions
from localemp.utils.progress import OnProgress, Progress
from localemp.utils.redaction import shown_command
from localemp.utils.together import together

_log = logging.getLogger(__name__)


def own_prompts(folder: Path, pipeline: Pipeline, answers: Answers | None = None, votes: int = 1) -> JudgePrompts:
    """Return localemp's own prompts for a judge: one that has begun goes on as it began.

    Args:
        folder: The judge's.
        pipeline: Its model.
        answers: How they are had; None for probabilities where the engine gives them.
        votes: How many times everything is asked; more than once takes written answers.

    Raises:
        RunError: The folder's manifest or a line is damaged.
    """
    if (chosen := answers or begun_with(folder)) is None:
        chosen = "probabilities" if votes == 1 and pipeline.gives_choices else "written"
    return JudgePrompts.read(answers=chosen)


@dataclass(slots=True)
class Judging:
    """What one judge is asked about one study, and its journal, open for writing.

    Attributes:
        study: What is judged.
        judge: The judge.
        answers: The journal.
        asked: All questions.
        pending: Those that are not answered yet.
        tally: What was done this time.
        error: What stopped it.
    """

    study: Study
    judge: Judge
    answers: JudgeLog
    asked: Sequence[Question]
    pending: Sequence[Question]
    tally: Tally | None = None
    error: LocalempError | None = None

    @classmethod
    def open(
        cls,
        study: Study,
        folder: Path,
        pipeline: Pipeline,
        prompts: JudgePrompts,
        *,
        votes: int = 1,
        limit: int | None = None,
        log: type[JudgeLog] = JudgeLog,
    ) -> Self:
        """Open a judge's folder, or make it.

        Args:
            study: What is judged.
            folder: The judge's.
            pipeline: The judge's model.
            prompts: What it is asked.
            votes: How many times.
            limit: Only this many items, from the start.
            log: The kind of journal.

        Raises:
            LocalempError: The folder cannot be written, or has answers of another judge.
        """
        judged = Judge(study, prompts, _sampling(pipeline, prompts), votes)
        asked = questions(study, votes, limit)
        answers = log.open(folder, pipeline.model_settings() | judged.describe())
        pipeline.budget.add_earlier(answers.bill.most)
        pending = [question for question in asked if question.id not in answers.answered]
        if len(pending) < len(asked):
            done = share(len(asked) - len(pending), len(asked), "answer")
            _log.info("resuming: %s already in %s", done, answers.folder)
        judging = cls(study, judged, answers, asked, pending)
        judging.attempt(answers.check)
        return judging

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step; an error stops this study alone, with a note on what is saved."""
        try:
            with noting(self.saved):
                step()
        except LocalempError as error:
            self.error = error

    async def ask(self, engine: Engine, on_progress: OnProgress) -> None:
        """Ask what is pending. An error stops this study, and if it is the engine's, all others."""
        made = {
            "command": shown_command(),
            "questions": len(self.pending),
            "versions": versions(),
            "machine": machine(),
        }
        try:
            with noting(self.saved):
                self.answers.add_session(made | engine.describe())
                self.tally = await self.judge.ask_all(self.pending, engine, self.answers, on_progress)
        except LocalempError as error:
            self.error = error
            if isinstance(error, BudgetError):
                done = sum(question.id in self.answers.answered for question in self.asked)
                say_how(error, done, len(self.asked), "question")

    def saved(self) -> str:
        """Return how much is in the file."""
        written, folder = self.answers.written(), self.answers.folder
        done = sum(question.id in written for question in self.asked)
        return f"{share(done, len(self.asked), 'answer')} saved to {folder}"


def _sampling(pipeline: Pipeline, prompts: JudgePrompts) -> Sampling:
    """Return how answers are drawn: as long as the prompts need them, unless the config says how long."""
    pipeline.check_effect(forms=True)
    sampling = pipeline.sampling
    if prompts.max_tokens is None or pipeline.config.max_tokens is not None:
        return sampling
    return replace(sampling, max_tokens=prompts.max_tokens)


async def ask_each(pipeline: Pipeline, pending: Sequence[Judging], on_progress: OnProgress) -> None:
    """Ask about studies that have questions left; each has the error that stopped it.

    They are asked about one after another on one engine. By batch, all are at once, since each batch may take a day:
    each study has an engine of its own, whose batches are found again in the judge's folder there.
    """
    if not pipeline.config.batch:
        await _ask_in_turn(pipeline, pending, on_progress)
        return
    added_up = _AddedUp(on_progress)
    await together(_ask_in_turn(pipeline, [each], added_up.part(number)) for number, each in enumerate(pending))


class _AddedUp:
    """The progress of parallel tasks as that of one."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress, self._parts = on_progress, dict[int, Progress]()

    def part(self, number: int) -> OnProgress:
        """Return what takes the progress of one of them."""

        def take(step: Progress) -> None:
            self._parts[number] = step
            same = [each for each in self._parts.values() if each.task == step.task]
            done, failed = sum(each.done for each in same), sum(each.failed for each in same)
            total = None if any(each.total is None for each in same) else sum(each.total or 0 for each in same)
            self._on_progress(replace(step, done=done, total=total, failed=failed))

        return take


async def _ask_in_turn(pipeline: Pipeline, pending: Sequence[Judging], on_progress: OnProgress) -> None:
    """Start the judge's engine, and ask about one study after another."""
    planner, context = pipeline.planner() if pipeline.runs_here else None, None
    if planner is not None:
        context = max([await each.judge.plan(each.pending, planner) for each in pending])
    engine = pipeline.engine(context, pending[0].answers.folder / "engine.log")
    on_progress(Progress(f"Starting {engine.name} ({pipeline.profile.name})"))
    try:
        await engine.start()
    except LocalempError as error:
        for each in pending:
            each.error = error
        return
    try:
        for number, each in enumerate(pending):
            await each.ask(engine, on_progress)
            if isinstance(each.error, FatalEngineError):
                for other in pending[number + 1 :]:
                    other.error = each.error
                return
    finally:
        await engine.close()
