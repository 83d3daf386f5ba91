"""`study.judge`: let a model rate a study, or several studies on one engine."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from localemp.errors import FatalEngineError, LocalempError, OptionError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.studies.privacy import open_study
from localemp.studies.study import JUDGES, Study
from localemp.utils.asynchronous import run_here
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.machine import machine, versions
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import shown_command

if TYPE_CHECKING:
    from localemp.engines.base import Engine
    from localemp.sampling import Sampling
    from localemp.studies.judging.judge import Judge, JudgeLog, Question
    from localemp.studies.judging.prompts import Answers, JudgePrompts
    from localemp.studies.judging.verdicts import JudgeStats

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """A judge after it was asked.

    Attributes:
        folder: Where its answers are.
        questions: How many questions were to be answered.
        failed: How many of these have an error instead of an answer.
        stats: What is known of the judge, from all of its answers.
        tally: What was done this time: answers, tokens, seconds, US dollars. None where nothing was left to do.
    """

    folder: Path
    questions: int
    failed: int
    stats: "JudgeStats"
    tally: Tally | None = None


def judge(
    study: StrPath,
    config: RunConfig | None = None,
    *,
    votes: int = 1,
    name: str | None = None,
    prompts: StrPath | None = None,
    answers: "Answers | None" = None,
    limit: int | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> JudgeResult:
    """Let a model rate a study: aspect by aspect, each pair in both orders. The same call resumes what was stopped.

    Args:
        study: The study's folder.
        config: The judge; or leave it out and give its fields by name, such as `model`, see `RunConfig`.
        votes: Times that everything is asked; above 1 it takes a temperature above 0.
        name: Of the judge, in tables and as a folder; the model's by default.
        prompts: What it is asked: a name, such as "mt-bench", or a file in the form of prompts/judge.toml.
        answers: "probabilities" or "written": whether the probability of every answer counts, or what the model writes.
            By default as the judge began, or as `prompts` says; for a new judge probabilities, where the engine gives
            them and everything is asked once.
        limit: Judge only this many items, from the start.
        on_progress: Called with every step: weights fetched, answers given.
        **settings: Fields of `RunConfig`.

    Raises:
        JudgeError: Too many answers cannot be read.
        LocalempError: Something is missing or wrong, or the engine can give no further answer. What was finished is in
            the judge's folder, and the error's note says how much that is.
        KeyboardInterrupt: Ctrl-C. What was finished is kept, and the note says how much that is.
    """
    [outcome] = judge_each(
        [study],
        RunConfig.of(settings, config),
        votes=votes,
        name=name,
        prompts=prompts,
        answers=answers,
        limit=limit,
        on_progress=on_progress,
    )
    if isinstance(outcome, LocalempError):
        raise outcome
    return outcome


def judge_each(
    studies: Iterable[StrPath],
    config: RunConfig,
    *,
    votes: int = 1,
    name: str | None = None,
    prompts: StrPath | None = None,
    answers: "Answers | None" = None,
    limit: int | None = None,
    on_progress: OnProgress = silent,
) -> list[JudgeResult | LocalempError]:
    """Let one model rate several studies, one after another on one engine. Arguments are those of `judge`.

    Returns:
        The result of each study, or the error that stopped it; what stops the engine stops all that follow.

    Raises:
        LocalempError: The judge itself is missing or wrong.
        KeyboardInterrupt: Ctrl-C. What was finished is kept, and the note says how much that is.
    """
    check_at_least(1, votes=votes, limit=limit)
    pipeline = Pipeline(config, on_progress)
    folder = _judge_folder(name, pipeline.profile.name)
    choose = _texts(pipeline, prompts, answers, votes)
    if pipeline.profile.notice:
        _log.info("note: %s", pipeline.profile.notice)
    outcomes: list[_Judging | LocalempError] = []
    with ExitStack() as stack:
        for study in studies:
            try:
                judging = _Judging.open(Path(study), folder, pipeline, choose, votes, limit)
            except LocalempError as error:
                outcomes.append(error)
                continue
            stack.callback(judging.answers.close)
            outcomes.append(judging)
        opened = [each for each in outcomes if isinstance(each, _Judging)]
        with noting(lambda: "; ".join(each.saved() for each in opened)):
            if pending := [each for each in opened if each.pending and each.error is None]:
                run_here(_ask(pipeline, pending, on_progress), "await asyncio.to_thread(study.judge, ...) there")
        return [each if isinstance(each, LocalempError) else each.error or each.result() for each in outcomes]


@dataclass(slots=True)
class _Judging:
    """A study and the journal of the judge who rates it, open for writing.

    Attributes:
        study: The study.
        judge: The judge.
        answers: The journal.
        asked: All questions.
        pending: Those that are not answered yet.
        tally: What was done this time.
        error: What stopped it.
    """

    study: Study
    judge: "Judge"
    answers: "JudgeLog"
    asked: "Sequence[Question]"
    pending: "Sequence[Question]"
    tally: Tally | None = None
    error: LocalempError | None = None

    @classmethod
    def open(
        cls,
        study: Path,
        name: str,
        pipeline: Pipeline,
        choose: "Callable[[Path], JudgePrompts]",
        votes: int,
        limit: int | None,
    ) -> "_Judging":
        from localemp.studies.judging.judge import Judge, JudgeLog, questions

        rated = open_study(study)
        folder = study / JUDGES / name
        prompts = choose(folder)
        judged = Judge(rated, prompts, _sampling(pipeline, prompts), votes)
        asked = questions(rated, votes, limit)
        answers = JudgeLog.open(folder, pipeline.model_settings() | judged.describe())
        pending = [question for question in asked if question.id not in answers.answered]
        if len(pending) < len(asked):
            done = share(len(asked) - len(pending), len(asked), "answer")
            _log.info("resuming: %s already in %s", done, answers.folder)
        judging = cls(rated, judged, answers, asked, pending)
        judging.attempt(answers.check)
        return judging

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step; an error stops this study alone, with a note on what is saved."""
        try:
            with noting(self.saved):
                step()
        except LocalempError as error:
            self.error = error

    async def ask(self, engine: "Engine", on_progress: OnProgress) -> None:
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

    def saved(self) -> str:
        """Return how much is in the file."""
        written, folder = self.answers.written(), self.answers.folder
        done = sum(question.id in written for question in self.asked)
        return f"{share(done, len(self.asked), 'answer')} saved to {folder}"

    def result(self) -> JudgeResult:
        """Return what is known of the judge now."""
        from localemp.studies.judging.verdicts import read_stats

        failed = sum(question.id in self.answers.failed for question in self.asked)
        stats = read_stats(self.answers.folder, self.study.key.checks)
        return JudgeResult(self.answers.folder, len(self.asked), failed, stats, self.tally)


def _sampling(pipeline: Pipeline, prompts: "JudgePrompts") -> "Sampling":
    """Return how answers are drawn: as long as the prompts need them, unless the config says how long."""
    sampling = pipeline.sampling
    if prompts.max_tokens is None or pipeline.config.max_tokens is not None:
        return sampling
    return replace(sampling, max_tokens=prompts.max_tokens)


def _texts(
    pipeline: Pipeline, given: StrPath | None, answers: "Answers | None", votes: int
) -> "Callable[[Path], JudgePrompts]":
    """Return a function that chooses the prompts of a judge by its folder: one that has begun stays as it is."""
    from localemp.studies.judging.prompts import JudgePrompts
    from localemp.studies.judging.verdicts import begun_with

    if given is not None:
        own = JudgePrompts.read(given)
        if answers not in (None, own.answers):
            raise OptionError(
                f'--answers {answers}: {given} says answers = "{own.answers}"',
                "leave out --answers, or take another file",
            )
        return lambda _: own

    def choose(folder: Path) -> JudgePrompts:
        if (chosen := answers or begun_with(folder)) is None:
            chosen = "probabilities" if votes == 1 and pipeline.gives_choices else "written"
        return JudgePrompts.read(answers=chosen)

    return choose


def _judge_folder(name: str | None, model: str) -> str:
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise OptionError(f"--name {name!r} is not a valid folder name", "use letters, digits, dots and dashes")
    return name or re.sub(r"[^\w.]+", "-", model).strip("-.")


async def _ask(pipeline: Pipeline, pending: "Sequence[_Judging]", on_progress: OnProgress) -> None:
    """Start the engine and ask about one study after another."""
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
