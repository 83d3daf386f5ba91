"""The studies at the end of an experiment: one for each row against its base row, created once and judged if wanted."""

import hashlib
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localemp.commands import study as studies
from localemp.commands.isolated_steps import RUN_AGAIN, IsolatedSteps, error_with_notes
from localemp.commands.study.judging import judge_each
from localemp.engines.budget import Budget
from localemp.errors import LocalempError
from localemp.experiments.folder import shortened
from localemp.experiments.steps import Judge, StudyStep
from localemp.reporting.published import Published
from localemp.reporting.tables import Table
from localemp.runs.bill import Bill
from localemp.runs.journal import read_manifest
from localemp.studies.collected_votes import read_votes
from localemp.studies.privacy import open_study
from localemp.studies.study import STUDY, Study
from localemp.utils.config_diff import compare_settings
from localemp.utils.files import is_file
from localemp.utils.formatting import share
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.studies.report.results import StudyResults

Pair = tuple[str, Path]  # a row's name and its run
_UNRATED = "no answer yet"
_log = logging.getLogger(__name__)
_OPTIONS = ("kind", "preset", "sample", "seed", "checks", "aspects", "title")


def create_studies(
    folder: Path,
    rows: Mapping[str, tuple[Pair, Pair]],
    wanted: StudyStep,
    steps: IsolatedSteps,
    on_progress: OnProgress = silent,
) -> tuple[dict[str, Path], list[str]]:
    """Create the study of each row; one of the same replies stays as it is, since people may have rated it.

    One of other replies stays, too, such as of a row that had other settings; the new one gets another name.

    Args:
        folder: The experiment's folder.
        rows: Name of a row; itself and its base, in the paper's order: a win is the row's.
        wanted: How they are made.
        steps: Runs each study as a step of its own.
        on_progress: Called with every study.

    Returns:
        The studies' folders by row, and what their owner has to know.
    """
    made: dict[str, Path] = {}
    notes: list[str] = []
    for name, pair in rows.items():
        study = folder / f"study-{_as_file(name)}"
        if study in made.values() or _is_of_others(study, pair):
            study = folder / f"{study.name}-{_hash_of(pair)}"
        if not is_file(study / STUDY):
            on_progress(Progress("Creating the study", detail=name))
            options = {option: getattr(wanted, option) for option in _OPTIONS}
            command = ["localemp", "study", "create", *(f"{each}={run}" for each, run in pair)]
            command += [word for option, value in options.items() if value for word in (f"--{option}", str(value))]
            step = partial(studies.create, dict(pair), out=study, **options)
            created = steps.run(f"study of {name}", shlex.join([*command, "--out", str(study)]), step)
            if created is None:
                continue
            notes += [f"study of {name}: {note}" for note in created.notes]
        made[name] = study
    return made, notes


def judge_studies(
    made: Mapping[str, Path],
    wanted: Judge,
    steps: IsolatedSteps,
    on_progress: OnProgress = silent,
    budget: Budget | None = None,
) -> None:
    """Have a model rate the studies, on one engine; what it has answered before is not asked again.

    Args:
        made: The studies by row.
        wanted: The judge.
        steps: Collects what failed; answers that were given stay in any case.
        on_progress: Called with answers given.
        budget: What it may cost, together with others; None for no limit.
    """
    commands = {name: _judge_command(study, wanted) for name, study in made.items()}
    judged = steps.run(
        f"the judge {wanted.name or wanted.model}",
        next(iter(commands.values()), ""),
        partial(
            judge_each,
            list(made.values()),
            wanted.config,
            votes=wanted.votes,
            name=wanted.name,
            prompts=wanted.prompts,
            answers=wanted.answers,
            limit=wanted.limit,
            budget=budget,
            on_progress=partial(_tell, on_progress),
        ),
    )
    bill = Bill()
    for name, outcome in zip(made, judged or [], strict=False):
        if not isinstance(outcome, LocalempError):
            bill.add(outcome.bill)
        what = f"the judge {wanted.name or wanted.model} of {name}"
        if isinstance(outcome, LocalempError):
            steps.fail(what, error_with_notes(outcome), commands[name])
        elif outcome.failed:
            without = share(outcome.failed, outcome.questions, "question")
            steps.fail(what, f"{without} without an answer", commands[name])
    for line in bill.lines(f"the judge {wanted.name or wanted.model}, all sessions"):
        _log.info("%s", line)


def _tell(on_progress: OnProgress, progress: Progress) -> None:
    """Tell a judge's answers from those of rows."""
    on_progress(replace(progress, task="Judging") if progress.task == "Answering" else progress)


def study_tables(
    made: Mapping[str, Path], rows: Sequence[str], known: Published, steps: IsolatedSteps
) -> tuple[list[Table], list[str]]:
    """Return the tables of all studies that have an answer, and the rows whose studies have none yet.

    The first is an overview of all. Of the paper's rows only those beside ours are there: the others would be
    repeated by each study.

    Args:
        made: The studies by row.
        rows: The names of all rows.
        known: The paper's results.
        steps: Runs each study as a step of its own.
    """
    from localemp.studies.report.overview import overview_tables
    from localemp.studies.report.results import StudyResults
    from localemp.studies.report.tables import study_tables as tables_of

    found: dict[str, StudyResults] = {}
    tables: list[Table] = []
    unrated = []
    for name, study in made.items():
        command = shlex.join(["localemp", "study", "report", str(study)])
        results = steps.run(f"study of {name}", command, partial(_results, study))
        if results is _UNRATED:
            unrated.append(name)
        elif isinstance(results, StudyResults):
            found[name] = results
            tables += steps.run(f"study of {name}", command, partial(tables_of, results, name, rows, known)) or []
    tables = [table for table in tables if not all(row.published for row in table.rows)]
    return [*(steps.run("studies", RUN_AGAIN, partial(overview_tables, found)) or []), *tables], unrated


def _is_of_others(study: Path, pair: tuple[Pair, Pair]) -> bool:
    """Return whether a study of other runs is there; a damaged one is none, and is told of when it is read."""
    if not is_file(study / STUDY):
        return False
    try:
        sources = Study.read(study).key.sources.values()
        known = [dict(source.get("settings") or {}) for source in sources]
        runs = [read_manifest(run)["settings"] for _, run in pair]
    except LocalempError:
        return False
    return len(known) != len(runs) or any(map(compare_settings, known, runs))


def _hash_of(pair: tuple[Pair, Pair]) -> str:
    """Return a hash of what distinguishes two runs: names and settings, which their folders' names have."""
    return hashlib.sha256("/".join(run.name for _, run in pair).encode()).hexdigest()[:8]


def _results(folder: Path) -> "StudyResults | str":
    from localemp.studies.report.results import study_results

    study = open_study(folder)
    return study_results(study) if read_votes(study) else _UNRATED


def _judge_command(study: Path, wanted: Judge) -> str:
    """The command with what it takes besides the model, as far as a command line has it."""
    words = ["localemp", "study", "judge", str(study), "--model", wanted.model]
    options = {"votes": wanted.votes if wanted.votes > 1 else None, "name": wanted.name, "prompts": wanted.prompts}
    options |= {"answers": wanted.answers, "limit": wanted.limit} | {
        name: value for name, value in wanted.settings.items() if _is_plain(value)
    }
    for name, value in options.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _as_file(name: str) -> str:
    return shortened(re.sub(r"[^\w.+]+", "-", name).strip("-.") or "row", name)
