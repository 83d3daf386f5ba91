"""`study.report`: what raters and judges answered, unblinded, next to the paper."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localemp.commands.tables import published_of, write_tables
from localemp.reporting.tables import Table
from localemp.studies.privacy import open_study
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath

if TYPE_CHECKING:
    from localemp.studies.report.results import StudyResults


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
