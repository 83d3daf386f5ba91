"""`study.calibrate`: measure judges on replies that people rated."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, get_args

from localemp.commands.study.judging import JudgeResult, judge_all
from localemp.commands.tables import write_tables
from localemp.engines.budget import Limit
from localemp.errors import LocalempError, OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.reporting.tables import Table
from localemp.studies.privacy import open_study
from localemp.studies.schema import Kind
from localemp.studies.study import Study
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, silent

if TYPE_CHECKING:
    from localemp.studies.judging.prompts import Answers
    from localemp.studies.report.results import StudyResults

FOLDER = "studies"
"""Where studies of rated replies are made by default."""
_EXAMPLE = "localemp study calibrate --judge M --ratings FILE --items FILE"


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Judges beside people.

    Attributes:
        study: The study that was judged.
        judges: What became of each judge that was asked: its result, or the error that stopped it.
        results: Every figure, unrounded; `results.calibration` is about the judges.
        tables: What is known of the judges, as tables.
        written: The files that were written.
        notes: What a reader needs to know of the ratings.
    """

    study: Study
    judges: "Mapping[str, JudgeResult | LocalempError]"
    results: "StudyResults"
    tables: tuple[Table, ...]
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def calibrate(
    study: StrPath | None = None,
    config: RunConfig | None = None,
    *,
    judge: str | Iterable[str] = (),
    ratings: StrPath | None = None,
    items: StrPath | None = None,
    kind: Kind | None = None,
    aspect: str | Iterable[str] = (),
    aspects: StrPath | None = None,
    column: Mapping[str, str] | None = None,
    sample: int | None = None,
    out: StrPath | None = None,
    own: str | Iterable[str] | None = None,
    votes: int = 1,
    prompts: StrPath | None = None,
    answers: "Answers | None" = None,
    limit: int | None = None,
    budget: Limit = None,
    resamples: int = 2000,
    markdown: StrPath | None = None,
    latex: StrPath | None = None,
    csv: StrPath | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> CalibrationResult:
    """Measure judges on replies that people rated: a study is made of these, the judges are asked, and compared.

    The same call resumes what was stopped, and asks nothing twice.

    Args:
        study: A study that people answered; or leave it out and give `ratings`.
        config: What is the same for all judges; or its fields by name. Its `seed` also draws the dialogues and the
            samples of intervals.
        judge: Models that judge, as `RunConfig.model` has them; judges that have answered the study are there, too.
        ratings: People's ratings: EmPO's folder or file, or a file as `import_` takes it.
        items: The replies that were rated: JSON lines as `create` takes them, or EmPO's.
        kind: "ab" (by default), pairs of replies of one dialogue; "rating", a number for each reply.
        aspect: The aspects that are asked about; all that people rated by default.
        aspects: What people were asked, and their scale: a questionnaire's name or file.
        column: Our name of a column or aspect, and the file's.
        sample: Dialogues to draw; 100 by default.
        out: The study's folder; by default one in `studies/` that is named after the ratings.
        own: The systems that the judges' own model wrote; by default those of each judge's family.
        votes: As for `judge`.
        prompts: As for `judge`.
        answers: As for `judge`.
        limit: Judge only this many items.
        budget: US dollars that all judges together may cost, earlier sessions included.
        resamples: Samples of dialogues for each interval.
        markdown: A file for the tables as Markdown.
        latex: A file for the tables for LaTeX (booktabs).
        csv: A folder, for a file of each table; a name that ends in .csv, for one file with all cells.
        on_progress: Called with every step.
        **settings: Fields of `RunConfig`.

    Raises:
        DataError: A file cannot be read, or breaks a rule; file and line are named.
        OptionError: Options exclude each other, or something is missing.
        UnknownNameError: There is no such aspect, system or kind.
        RunError: The folder has another study, or nothing that could be compared.
        LocalempError: The only judge was stopped; what it answered is kept.
        KeyboardInterrupt: Ctrl-C. What was finished is kept, and the note says how much that is.
    """
    from localemp.studies.report.results import study_results
    from localemp.studies.report.tables import study_tables
    from localemp.studies.stats.intervals import Bootstrap

    check_at_least(1, sample=sample, votes=votes, limit=limit)
    check_at_least(100, resamples=resamples)
    config = RunConfig.of(settings, config)
    check_at_least(0, seed=config.seed)
    chosen = _several(aspect)
    if study is None:
        measured, notes = _made(ratings, items, kind or "ab", chosen, aspects, column, sample, config.seed, out)
    else:
        made_with: dict[str, object] = {"ratings": ratings, "items": items, "kind": kind, "aspect": chosen}
        made_with |= {"aspects": aspects, "column": column, "sample": sample, "out": out}
        if given := [name for name, value in made_with.items() if value]:
            raise OptionError(f"--{given[0]} is for a new study, and STUDY is there already", "leave one of them out")
        measured, notes = open_study(Path(study)), []
    mine = None if own is None else _systems(measured, _several(own))
    asked = judge_all(
        measured.folder,
        _several(judge),
        config,
        votes=votes,
        prompts=prompts,
        answers=answers,
        limit=limit,
        budget=budget,
        on_progress=on_progress,
    )
    if len(asked) == 1 and isinstance(error := next(iter(asked.values())), LocalempError):
        raise error
    results = study_results(measured, Bootstrap(resamples, config.seed), own=mine)
    if not results.calibration.judges:
        raise OptionError(f"no judge has answered {measured.folder}", f"name one with --judge; {_EXAMPLE}")
    tables = tuple(study_tables(results, judges_only=True))
    written = tuple(write_tables(tables, markdown, latex, csv))
    return CalibrationResult(measured, asked, results, tables, written, tuple(notes))


def _made(
    ratings: StrPath | None,
    items: StrPath | None,
    kind: Kind,
    chosen: Sequence[str],
    aspects: StrPath | None,
    column: Mapping[str, str] | None,
    sample: int | None,
    seed: int,
    out: StrPath | None,
) -> tuple[Study, list[str]]:
    """Return the study of rated replies, and what a reader needs to know of it."""
    from localemp.studies.calibration_study import calibration_study
    from localemp.studies.rated_items import read_rated_items

    if ratings is None:
        raise OptionError("name people's ratings with --ratings FILE, or a STUDY that people answered", _EXAMPLE)
    if kind not in get_args(Kind):
        raise UnknownNameError("kind of study", kind, get_args(Kind))
    path = Path(ratings)
    rated = read_rated_items(
        path, None if items is None else Path(items), aspects=aspects, chosen=chosen, renamed=column
    )
    folder = _folder_of(path, kind) if out is None else Path(out)
    return calibration_study(folder, rated, kind, sample=sample, seed=seed)


def _several(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _folder_of(ratings: Path, kind: Kind) -> Path:
    name = re.sub(r"(\.(csv|tsv|txt))?(\.gz)?$", "", ratings.resolve().name)
    plain = re.sub(r"[^\w.-]+", "-", name)
    return Path(FOLDER) / f"calibration-{plain}-{kind}"


def _systems(study: Study, names: Sequence[str]) -> Sequence[str]:
    if unknown := [name for name in names if name not in study.systems]:
        raise UnknownNameError("system", unknown[0], study.systems, "--own takes names of systems")
    return names
