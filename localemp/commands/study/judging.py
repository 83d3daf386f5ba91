"""`study.judge`: let a model rate a study, or several studies on one engine."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from localemp.engines.budget import Budget, Limit
from localemp.errors import LocalempError, OptionError, RunError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.bill import Bill
from localemp.runs.judge_answers import folder_name
from localemp.studies.privacy import open_study
from localemp.studies.study import JUDGES
from localemp.utils.asynchronous import run_here
from localemp.utils.interrupts import noting
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.together import together

if TYPE_CHECKING:
    from localemp.studies.judging.asking import Judging
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
        bill: What the judge has cost over all sessions; `tally.bill` is this session's.
    """

    folder: Path
    questions: int
    failed: int
    stats: "JudgeStats"
    tally: Tally | None = None
    bill: Bill = field(default_factory=Bill)


def judge(
    study: StrPath,
    config: RunConfig | None = None,
    *,
    votes: int = 1,
    name: str | None = None,
    prompts: StrPath | None = None,
    answers: "Answers | None" = None,
    limit: int | None = None,
    budget: Limit = None,
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
        budget: US dollars that it may cost in all, earlier sessions included. What does not fit any more is not asked,
            and a `BudgetError` says how to go on.
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
        budget=budget,
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
    budget: Limit = None,
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
    with ExitStack() as stack:
        asked = _open_judge(stack, studies, config, votes, name, prompts, answers, limit, budget, on_progress)
        _ask_at_once([asked])
        return asked.results()


@dataclass(slots=True)
class _Judge:
    """A judge and what it is asked about several studies; `outcomes` has the error of a study that cannot be asked."""

    pipeline: Pipeline
    outcomes: "list[Judging | LocalempError]"
    on_progress: OnProgress

    @property
    def opened(self) -> "list[Judging]":
        return [each for each in self.outcomes if not isinstance(each, LocalempError)]

    @property
    def pending(self) -> "list[Judging]":
        return [each for each in self.opened if each.pending and each.error is None]

    def results(self) -> list[JudgeResult | LocalempError]:
        return [each if isinstance(each, LocalempError) else each.error or _result(each) for each in self.outcomes]


def _open_judge(
    stack: ExitStack,
    studies: Iterable[StrPath],
    config: RunConfig,
    votes: int,
    name: str | None,
    prompts: StrPath | None,
    answers: "Answers | None",
    limit: int | None,
    budget: Limit,
    on_progress: OnProgress,
) -> _Judge:
    """Open a judge's folders, until the stack is closed."""
    from localemp.studies.judging.asking import Judging

    pipeline = Pipeline(config, on_progress, Budget.of(budget))
    if note := pipeline.check_budget():
        _log.info("note: %s", note)
    folder = _checked(name) or folder_name(pipeline.profile.name)
    choose = _texts(pipeline, prompts, answers, votes)
    pipeline.note_end()
    outcomes: list[Judging | LocalempError] = []
    for study in studies:
        place = Path(study) / JUDGES / folder
        try:
            rated = open_study(Path(study))
            judging = Judging.open(rated, place, pipeline, choose(place), votes=votes, limit=limit)
        except LocalempError as error:
            outcomes.append(error)
            continue
        stack.callback(judging.answers.close)
        _warn_of_own_family(judging, pipeline.model_name)
        outcomes.append(judging)
    return _Judge(pipeline, outcomes, on_progress)


def _ask_at_once(judges: "Sequence[_Judge]") -> None:
    """Ask judges what is left, all at the same time."""
    from localemp.studies.judging.asking import ask_each

    async def ask() -> None:
        await together(ask_each(each.pipeline, each.pending, each.on_progress) for each in judges if each.pending)

    with noting(lambda: "; ".join(each.saved() for judge in judges for each in judge.opened)):
        if any(judge.pending for judge in judges):
            run_here(ask(), "await asyncio.to_thread(study.judge, ...) there")


def judge_all(
    study: StrPath,
    models: Sequence[str],
    config: RunConfig | None = None,
    *,
    votes: int = 1,
    prompts: StrPath | None = None,
    answers: "Answers | None" = None,
    limit: int | None = None,
    budget: Limit = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> dict[str, JudgeResult | LocalempError]:
    """Let several models rate a study, one after another, or by batch at once. The same call resumes what was stopped.

    Args:
        study: The study's folder.
        models: The judges, as `--model` has them; each has a folder of its own.
        config: What is the same for all of them; its model is not asked.
        votes: As for `judge`.
        prompts: As for `judge`.
        answers: As for `judge`.
        limit: As for `judge`.
        budget: As for `judge`, for all of them together.
        on_progress: As for `judge`; each task names its judge.
        **settings: Fields of `RunConfig`.

    Returns:
        The result of each judge by name, or the error that stopped it; the others are asked all the same.

    Raises:
        OptionError: Two judges have one name, or the prompts have no text for the study.
        LocalempError: The study cannot be read, or there are no such prompts or models.
        KeyboardInterrupt: Ctrl-C. What was finished is kept, and the note says how much of this judge that is.
    """
    from localemp.studies.judging.prompts import JudgePrompts

    asked = open_study(Path(study)).manifest
    if prompts is not None:
        JudgePrompts.read(prompts).check_asks(asked.kind, asked.aspects)
    shared, judges = RunConfig.of(settings, config), dict[str, RunConfig]()
    for model in models:
        each = replace(shared, model=model)
        name = folder_name(Pipeline(each).profile.name)
        if name in judges:
            raise OptionError(
                f"two judges are called {name}", "name each once; the same model as another judge takes --name, alone"
            )
        judges[name] = each
    outcomes: dict[str, JudgeResult | LocalempError] = {}
    money = Budget.of(budget)
    for each in judges.values():
        Pipeline(each, budget=money).check_budget()
    with ExitStack() as stack:
        opened: dict[str, _Judge] = {}
        for name, each in judges.items():
            told = partial(_tell, name, on_progress)
            try:
                opened[name] = _open_judge(stack, [study], each, votes, None, prompts, answers, limit, money, told)
                if not each.batch:
                    _ask_at_once([opened[name]])
            except LocalempError as error:
                outcomes[name] = error
        if shared.batch:  # each batch may take a day
            _ask_at_once(list(opened.values()))
        for name in opened.keys() - outcomes.keys():
            try:
                [outcomes[name]] = opened[name].results()
            except LocalempError as error:
                outcomes[name] = error
        return {name: outcomes[name] for name in judges}


def _tell(judge: str, on_progress: OnProgress, progress: Progress) -> None:
    """Report the progress of one of several judges."""
    on_progress(replace(progress, task=f"{judge}: {progress.task}"))


def _warn_of_own_family(judging: "Judging", name: str) -> None:
    """Warn of systems of the judge's own family, on the screen alone; nothing is said without the study's key."""
    from localemp.studies.own_family import family_note, own_family

    with suppress(RunError):
        if systems := own_family(judging.study, judging.answers.manifest["settings"]):
            _log.warning("%s", family_note(name, systems))


def _result(judging: "Judging") -> JudgeResult:
    """Return what is known of a judge now."""
    from localemp.studies.judging.verdicts import read_stats

    failed = sum(question.id in judging.answers.failed for question in judging.asked)
    stats = read_stats(judging.answers.folder, judging.study.key.checks)
    return JudgeResult(judging.answers.folder, len(judging.asked), failed, stats, judging.tally, judging.answers.bill)


def _texts(
    pipeline: Pipeline, given: StrPath | None, answers: "Answers | None", votes: int
) -> "Callable[[Path], JudgePrompts]":
    """Return a function that chooses the prompts of a judge by its folder: one that has begun stays as it is."""
    from localemp.studies.judging.asking import own_prompts
    from localemp.studies.judging.prompts import JudgePrompts

    if given is not None:
        own = JudgePrompts.read(given)
        if answers not in (None, own.answers):
            raise OptionError(
                f'--answers {answers}: {given} says answers = "{own.answers}"',
                "leave out --answers, or take another file",
            )
        return lambda _: own

    return lambda folder: own_prompts(folder, pipeline, answers, votes)


def _checked(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise OptionError(f"--name {name!r} is not a valid folder name", "use letters, digits, dots and dashes")
    return name
