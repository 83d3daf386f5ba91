"""`report`: make tables, figures and a page from runs, next to the paper's numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localemp.commands.tables import published_of, write_tables, write_text
from localemp.errors import OptionError
from localemp.reporting.published import Published
from localemp.reporting.report import Report
from localemp.reporting.systems import names_of, read_systems
from localemp.reporting.tables import Table
from localemp.utils.paths import StrPath, paths_of
from localemp.utils.progress import OnProgress, silent


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A report, and where it was written.

    Attributes:
        report: Tables, figures and case study, not rendered yet.
        written: The files, in the order of writing.
    """

    report: Report
    written: tuple[Path, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables that have a row."""
        return self.report.tables


def report(
    runs: StrPath | Iterable[StrPath],
    *,
    html: StrPath | None = None,
    markdown: StrPath | None = None,
    latex: StrPath | None = None,
    csv: StrPath | None = None,
    study: StrPath | Iterable[StrPath] = (),
    common: bool = False,
    published: StrPath | None = None,
    title: str | None = None,
    cases: int | None = None,
    on_progress: OnProgress = silent,
) -> ReportResult:
    """Make tables, figures and a page from runs.

    Scores are read from each run's folder; missing ones are computed, except BERTScore, which `score` adds.

        result = report(["runs/a", "runs/b"], html="report.html")
        print(result.tables[0].title)

    Args:
        runs: Folders of runs, and the FILE.scores.json that `score` wrote for replies made elsewhere.
        html: The file for one self-contained page.
        markdown: A file for the tables as Markdown.
        latex: A file for the tables for LaTeX (booktabs).
        csv: A folder for one file per table, or a name ending in .csv for one file with all cells.
        study: Folders of studies, whose tables are added.
        common: Score all runs on the dialogues that all of them answered.
        published: "none" to omit the paper's rows, or a TOML file with others.
        title: Title of the page.
        cases: Number of dialogues in the page's case study; None for all.
        on_progress: Called with systems read.

    Raises:
        RunError: A folder holds no run or study, or no reply yet.
        DataError: A file holds no scores, or breaks a rule.
        OptionError: No run is given, a file cannot be written, or runs share no dialogue.
    """
    run_paths = paths_of(runs)
    if not run_paths:
        raise OptionError("nothing to report", "give runs (`localemp runs list` shows them)")
    known = published_of(published)
    systems = tuple(read_systems(run_paths, common, on_progress))
    made = Report(systems, known, _of_studies(paths_of(study), [system.name for system in systems], known), cases)
    written = []
    if html is not None:
        from localemp.reporting.page import render

        written.append(write_text(Path(html), render(made, title), "--html"))
    return ReportResult(made, (*written, *write_tables(made.tables, markdown, latex, csv)))


def _of_studies(studies: Sequence[Path], runs: Sequence[str], known: Published) -> tuple[Table, ...]:
    if not studies:
        return ()
    from localemp.studies.privacy import open_study
    from localemp.studies.report.results import study_results
    from localemp.studies.report.tables import study_tables

    names = names_of(studies) if len(studies) > 1 else [""]
    return tuple(
        table
        for folder, name in zip(studies, names, strict=True)
        for table in study_tables(study_results(open_study(folder)), name, runs, known)
    )
