"""`report`: make tables, figures and a page from runs, next to the paper's numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from localemp.commands.tables import published_of, write_tables, write_text
from localemp.errors import OptionError
from localemp.metrics.groups import check_by
from localemp.metrics.usable import read_usable
from localemp.reporting.bold import find_best
from localemp.reporting.differences import bases_of, difference_tables, differences
from localemp.reporting.emotion_tables import emotion_tables
from localemp.reporting.published import Published
from localemp.reporting.report import Report
from localemp.reporting.systems import System, named_systems, names_of, plain_names, read_system
from localemp.reporting.tables import Note, Table, listed
from localemp.utils.paths import Named, StrPath, named_paths
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
    runs: Named,
    *,
    html: StrPath | None = None,
    markdown: StrPath | None = None,
    latex: StrPath | None = None,
    csv: StrPath | None = None,
    study: Named = (),
    against: str | Iterable[str] = (),
    by: Literal["emotion"] | None = None,
    bold: bool = False,
    common: bool = False,
    published: StrPath | None = None,
    title: str | None = None,
    cases: int | None = None,
    on_progress: OnProgress = silent,
) -> ReportResult:
    """Make tables, figures and a page from runs.

    Scores are read from each run's folder; missing ones are computed, except what needs a model, which `score` adds.

        result = report(["runs/a", "runs/b"], html="report.html")
        print(result.tables[0].title)

    Args:
        runs: Folders of runs, and the FILE.scores.json that `score` wrote for replies made elsewhere; with their names
            in tables as a mapping, or as "NAME=PATH"; by default model and strategy. Among several, those that are
            damaged, without a reply, or no run are left out and named.
        html: The file for one self-contained page.
        markdown: A file for the tables as Markdown.
        latex: A file for the tables for LaTeX (booktabs).
        csv: A folder for one file per table, or a name ending in .csv for one file with all cells.
        study: Folders of studies, whose tables are added; names as for runs.
        against: The name of a run, or of one for each model: how far each other run of the model differs from it, with
            intervals and p-values.
        by: "emotion" to add a table of each run's metrics by the speaker's emotion.
        bold: Make the best value of each column bold, and those that are not significantly worse.
        common: Score all runs on the dialogues that all of them answered.
        published: "none" to omit the paper's rows, or a TOML file with others.
        title: Title of the page.
        cases: Number of dialogues in the page's case study; None for all.
        on_progress: Called with systems read.

    Raises:
        RunError: No folder holds a run with a reply, or one holds no study.
        DataError: A file holds no scores, or breaks a rule.
        UnknownNameError: No run is called as `against` says.
        OptionError: No run is given, a file cannot be written, or runs share no dialogue.
    """
    if not (given := named_paths(runs)):
        raise OptionError("nothing to report", "give runs (`localemp runs list` shows them)")
    check_by(by)
    known = published_of(published)
    once = list({path.resolve(): path for _, path in given}.values())
    usable, left_out = read_usable(once, read_system, on_progress)
    names = plain_names(usable, {path: name for name, path in given if name})
    systems = tuple(named_systems(usable, common, names))
    bases = [against] if isinstance(against, str) else list(against)
    results = (
        difference_tables(differences(systems, bases_of(systems, bases), on_progress=on_progress)) if bases else []
    )
    results += emotion_tables(systems) if by else []
    results += of_studies(named_paths(study), systems, known)
    best = find_best(systems, on_progress=on_progress) if bold else None
    made = Report(systems, known, tuple(results), cases, left_out, best)
    written = []
    if html is not None:
        from localemp.reporting.page import render

        written.append(write_text(Path(html), render(made, title), "--html"))
    return ReportResult(made, (*written, *write_tables(made.tables, markdown, latex, csv)))


def of_studies(studies: Sequence[tuple[str, Path]], systems: Sequence[System], known: Published) -> list[Table]:
    """Return the tables of studies.

    Args:
        studies: Names and folders; a name is put before the titles where there are several, or where it is given.
        systems: The runs beside which they stand; a study calls them by their folders.
        known: The paper's results.

    Raises:
        RunError: A folder holds no study, or it has no answer yet.
    """
    if not studies:
        return []
    from localemp.studies.privacy import open_study
    from localemp.studies.report.results import study_results
    from localemp.studies.report.tables import study_tables

    called = names_of([folder for _, folder in studies]) if len(studies) > 1 else [""]
    runs = {system.folder: system.name for system in systems}
    renamed = [f"{folder} is {name}" for folder, name in runs.items() if folder != name]
    told = [Note(f"In the tables above, {listed(renamed)}.")] if renamed else []
    tables = [
        table
        for (given, folder), name in zip(studies, called, strict=True)
        for table in study_tables(study_results(open_study(folder)), given or name, [*runs, *runs.values()], known)
    ]
    return [replace(table, notes=(*(told if table is tables[0] else ()), *table.notes)) for table in tables]
