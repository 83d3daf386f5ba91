"""`study`: create, serve, judge, import, report and export a blinded study of replies (sections 4.3 and 5.4).

from localemp import study

study.create(["runs/a", "runs/b"], out="studies/mine")
study.judge("studies/mine", model="llama")
print(study.report("studies/mine").results.as_dict())
"""

import logging
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack, get_args

from localemp.commands.tables import make_folder, published_of, write_tables
from localemp.errors import FatalEngineError, LocalempError, OptionError, UnknownNameError
from localemp.metrics.replies import Replies, replies_of_run
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.reporting.tables import Table
from localemp.studies.privacy import open_study
from localemp.studies.schema import Kind
from localemp.studies.study import ANSWERS, JUDGES, Study
from localemp.utils.asynchronous import run_here
from localemp.utils.files import write_atomically, write_errors
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.machine import machine, versions
from localemp.utils.option import check_at_least
from localemp.utils.paths import Named, StrPath, named_paths, paths_of
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import shown_command

if TYPE_CHECKING:
    from localemp.engines.base import Engine
    from localemp.studies.answers import AnswerStore
    from localemp.studies.judging.judge import Judge, JudgeLog, Question
    from localemp.studies.judging.prompts import JudgePrompts
    from localemp.studies.judging.verdicts import JudgeStats
    from localemp.studies.report.results import StudyResults
    from localemp.studies.votes import Vote

__all__ = [
    "CreateResult",
    "ExportResult",
    "ImportResult",
    "JudgeResult",
    "ServedStudy",
    "StudyReport",
    "create",
    "export",
    "import_",
    "judge",
    "report",
    "serve",
]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CreateResult:
    """A study that was created.

    Attributes:
        study: The study.
        notes: What its owner has to know.
    """

    study: Study
    notes: tuple[str, ...] = ()


def create(
    runs: Named = (),
    *,
    out: StrPath,
    items: StrPath | None = None,
    kind: Kind = "ab",
    preset: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    checks: int = 0,
    aspects: StrPath | None = None,
    title: str | None = None,
) -> CreateResult:
    """Create a study: dialogues that all runs answered, replies blinded, orders shuffled.

    Args:
        runs: Folders of runs; with the systems' names as a mapping, or as "NAME=PATH".
        out: The study's folder.
        items: A file of JSON lines in place of runs: id, turns, replies (system: text).
        kind: "ab", choose the better of two replies; "rating", give each reply a number.
        preset: A design; "paper" is that of the paper's own studies.
        sample: Dialogues to draw; by default what the design has, else 100.
        seed: Of the sample. The same seed draws the same dialogues; the blinding is always new.
        checks: Attention checks to add.
        aspects: A file with what raters are asked, in the form of prompts/study.toml.
        title: What raters read at the top; must tell no system.

    Raises:
        OptionError: Neither runs nor items, too few systems, or no dialogue in all of them.
        UnknownNameError: There is no such kind or preset.
        DataError: A file cannot be read, or breaks a rule.
        RunError: A folder holds no run, or `out` cannot be written.
    """
    from localemp.studies.create import create_study, replies_of_items
    from localemp.studies.questionnaire import load_questionnaire

    if kind not in get_args(Kind):
        raise UnknownNameError("kind of study", kind, get_args(Kind))
    check_at_least(1, sample=sample)
    check_at_least(0, checks=checks)
    folders = named_paths(runs)
    if bool(folders) == (items is not None):
        raise OptionError(
            "name runs or --items FILE, one of them", "localemp study create runs/a runs/b --out studies/mine"
        )
    systems = [] if items is None else replies_of_items(Path(items))
    systems += [_named_replies(name, folder) for name, folder in folders]
    asked = load_questionnaire(None if aspects is None else Path(aspects), kind)
    study, notes = create_study(
        Path(out), systems, kind, asked, preset=preset, sample=sample, seed=seed, checks=checks, title=title
    )
    return CreateResult(study, tuple(notes))


def _named_replies(name: str, folder: Path) -> Replies:
    replies = replies_of_run(folder)
    return replace(replies, name=name or replies.name)


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
        prompts: A file with what it is asked, in the form of prompts/judge.toml.
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
    from localemp.studies.judging.prompts import JudgePrompts

    check_at_least(1, votes=votes, limit=limit)
    pipeline = Pipeline(config, on_progress)
    folder = _judge_folder(name, pipeline.profile.name)
    texts = JudgePrompts.read(None if prompts is None else Path(prompts))
    if pipeline.profile.notice:
        _log.info("note: %s", pipeline.profile.notice)
    outcomes: list[_Judging | LocalempError] = []
    with ExitStack() as stack:
        for study in studies:
            try:
                judging = _Judging.open(Path(study), folder, pipeline, texts, votes, limit)
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
        cls, study: Path, name: str, pipeline: Pipeline, texts: "JudgePrompts", votes: int, limit: int | None
    ) -> "_Judging":
        from localemp.studies.judging.judge import Judge, JudgeLog, questions

        rated = open_study(study)
        judged = Judge(rated, texts, pipeline.sampling, votes)
        asked = questions(rated, votes, limit)
        answers = JudgeLog.open(study / JUDGES / name, pipeline.model_settings() | judged.describe())
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


@dataclass(frozen=True, slots=True)
class ServedStudy:
    """A study that is about to be served, and how raters reach it.

    Attributes:
        study: The study.
        answers: The file with the answers.
        base: The address that raters type.
        links: The secret link of each rater, and of the owner, by name; None if there was one already, which
            cannot be shown again.
        by_name: Whether raters may sign in by a name alone.
        local: Whether it is reached from this machine alone.
    """

    study: Study
    answers: Path
    base: str
    links: Mapping[str, str | None] = field(repr=False)
    by_name: bool
    local: bool


def serve(
    study: StrPath,
    *,
    raters: str | Iterable[str] | None = None,
    new_link: str | Iterable[str] = (),
    open_signup: bool = False,
    host: str = "127.0.0.1",
    port: int = 8300,
    url: str | None = None,
    on_links: Callable[[ServedStudy], None],
    on_ready: Callable[[ServedStudy], None] = lambda served: None,
) -> None:
    """Serve the page on which people rate in a browser, until Ctrl-C. Every answer is saved at once.

    Args:
        study: The study's folder.
        raters: Names; each who has no link gets one. By default a study of a preset that has no rater yet gets as many
            as it asks for.
        new_link: Raters, or "owner", who get a fresh link, which ends the old one.
        open_signup: Let everybody who reaches the page become a rater by giving a name.
        host: Where to listen; "0.0.0.0" is every network.
        port: The port.
        url: The address that raters type, if an HTTPS server stands in front of this one.
        on_links: Called once with the links, which cannot be had again, before anybody is served.
        on_ready: Called when the page is served.

    Raises:
        OptionError: A package is missing, or a value cannot be used.
        RunError: The folder holds no study.
        LocalempError: The port cannot be had.
    """
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise OptionError("`localemp study serve` needs starlette and uvicorn", "pip install 'localemp[serve]'")
    from localemp.studies.answers import AnswerStore
    from localemp.studies.raters import OWNER
    from localemp.studies.web.app import StudyApp
    from localemp.web.server import open_listener, serve_on

    base = _checked(url) if url else _url_of(host, port)
    local = host in _LOOPBACK and not url
    rated = open_study(Path(study))
    answers = AnswerStore(Path(study) / ANSWERS, rated)
    app = StudyApp(
        rated, answers, signup=local or open_signup, hosts=_LOOPBACK if local else None, url=base if url else ""
    )
    try:
        with open_listener(host, port) as listener:
            # Only now: a link that was made and not shown cannot be had again.
            tokens = answers.make_links(
                _named(raters, rated, answers), [new_link] if isinstance(new_link, str) else list(new_link)
            )
            links = {
                name: f"{base}/{'o' if name == OWNER else 'r'}/{token}" if token else None
                for name, token in tokens.items()
            }
            served = ServedStudy(rated, Path(study) / ANSWERS, base, links, local or open_signup, local)
            on_links(served)
            app.warm(list(answers.progress()))
            serve_on(listener, app.app, partial(on_ready, served))
    finally:
        answers.close()


def _named(raters: str | Iterable[str] | None, study: Study, answers: "AnswerStore") -> list[str]:
    """Return the raters who get a link: those named, else as many as the design asks for if there are none yet."""
    if raters is not None:
        return [raters] if isinstance(raters, str) else list(raters)
    planned = 0 if answers.progress() or answers.votes() else study.manifest.annotators or 0
    return [f"annotator-{number}" for number in range(1, planned + 1)]


def _url_of(host: str, port: int) -> str:
    """Return the URL for raters: this machine's name if the server listens on all interfaces."""
    name = socket.gethostname() if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _checked(url: str) -> str:
    from localemp.web.addresses import normalize_address

    try:
        return normalize_address(url)
    except ValueError as error:
        raise OptionError(f"--url {url!r}: {error}", "for example https://study.example.org") from error


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Ratings that were imported.

    Attributes:
        votes: The ratings.
        replaced: How many of them replaced another answer of an earlier import.
        unrated: Aspects of the study that no rating is about.
    """

    votes: "tuple[Vote, ...]"
    replaced: int
    unrated: tuple[str, ...]


def import_(
    study: StrPath, files: StrPath | Iterable[StrPath], *, column: Mapping[str, str] | None = None
) -> ImportResult:
    """Take ratings from files of comma-separated values, all of them or none. The newest import of an answer counts.

    Args:
        study: The study's folder.
        files: With columns rater, item (or dialogue), and aspect and value, or one column for each aspect; reply or
            system says what was rated. docs/studies.md has the form.
        column: Our name of a column or aspect, and the file's.

    Raises:
        DataError: A file cannot be read, or breaks a rule; file and line are named.
        UnknownNameError: There is no such column.
        RunError: The folder holds no study.
    """
    from localemp.studies.answers import AnswerStore
    from localemp.studies.importing import keep_ratings, read_ratings

    rated = open_study(Path(study))
    votes = [vote for file in paths_of(files) for vote in read_ratings(file, rated, column)]
    answers = AnswerStore(Path(study) / ANSWERS, rated)
    try:
        replaced = keep_ratings(answers, votes)
    finally:
        answers.close()
    voted = {vote.aspect for vote in votes}
    unrated = tuple(aspect.name for aspect in rated.manifest.aspects if aspect.name not in voted)
    return ImportResult(tuple(votes), replaced, unrated)


@dataclass(frozen=True, slots=True)
class StudyReport:
    """The results of a study.

    Attributes:
        results: Every figure, unrounded; `results.as_dict()` is for JSON.
        tables: The same as tables.
        written: The files that were written.
    """

    results: "StudyResults"
    tables: tuple[Table, ...]
    written: tuple[Path, ...] = ()


def report(
    study: StrPath,
    *,
    markdown: StrPath | None = None,
    latex: StrPath | None = None,
    csv: StrPath | None = None,
    judge: str | Iterable[str] = (),
    resamples: int = 2000,
    seed: int = 0,
    published: StrPath | None = None,
    drop_failed: bool = False,
) -> StudyReport:
    """Report what people and judges think of the systems, how far people agree, and how far a judge agrees with them.

    Args:
        study: The study's folder.
        markdown: A file for the tables as Markdown.
        latex: A file for the tables for LaTeX (booktabs).
        csv: A folder, for a file of each table; a name that ends in .csv, for one file with all cells.
        judge: Names of judges; by default all.
        resamples: Samples of dialogues for each interval.
        seed: Of these samples.
        published: "none" leaves the paper's rows out; a file (TOML) has others.
        drop_failed: Leave out people who missed half of the attention checks or more.

    Raises:
        RunError: The folder holds no study, or there is no answer yet.
        UnknownNameError: There is no such judge.
        DataError: `published` cannot be read, or breaks a rule.
        OptionError: A file cannot be written.
    """
    from localemp.studies.report.results import study_results
    from localemp.studies.report.tables import study_tables
    from localemp.studies.stats.intervals import Bootstrap

    check_at_least(100, resamples=resamples)
    check_at_least(0, seed=seed)
    known = published_of(published)
    judges = (judge,) if isinstance(judge, str) else tuple(judge)
    results = study_results(open_study(Path(study)), Bootstrap(resamples, seed), judges, drop_failed)
    tables = tuple(study_tables(results, published=known))
    return StudyReport(results, tables, tuple(write_tables(tables, markdown, latex, csv)))


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The answers of a study.

    Attributes:
        text: All answers, one line each.
        answers: How many.
        out: The file that they were written to.
    """

    text: str = field(repr=False)
    answers: int
    out: Path | None = None


def export(
    study: StrPath,
    *,
    format: Literal["csv", "jsonl"] = "csv",
    out: StrPath | None = None,
    unblinded: bool = False,
) -> ExportResult:
    """Export the newest answers of people, imported files and judges.

    Args:
        study: The study's folder.
        format: "csv" or "jsonl".
        out: The file to write. An unblinded one can be read by its owner alone, like the study's key.
        unblinded: Name systems and dialogues.

    Raises:
        UnknownNameError: There is no such format.
        RunError: The folder holds no study.
        OptionError: The file cannot be written.
    """
    from localemp.studies.answers import AnswerStore
    from localemp.studies.exporting import all_votes, as_csv, as_jsonl, lines_of

    if format not in ("csv", "jsonl"):
        raise UnknownNameError("format", format, ["csv", "jsonl"])
    rated = open_study(Path(study))
    with closing(AnswerStore(Path(study) / ANSWERS, rated)) as answers:
        given = all_votes(rated, answers)
    lines = lines_of(given, rated, unblinded)
    text = as_csv(lines, unblinded) if format == "csv" else as_jsonl(lines)
    if out is None:
        return ExportResult(text, len(given))
    path = Path(out)
    with write_errors(lambda message, hint: OptionError(f"--out {path}: {message}", hint), "name another file"):
        make_folder(path.parent)
        if unblinded and (path.is_file() or not path.exists()):
            write_atomically(path.resolve(), text, mode=0o600)
        else:
            path.write_text(text, "utf-8")
    return ExportResult(text, len(given), path)
