"""`report`: make tables, figures and a page from runs, next to the paper's numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localemp.commands.tables import published_of, write_tables, write_text
from localemp.errors import OptionError
from localemp.reporting.differences import bases_of, difference_tables, differences
from localemp.reporting.published import Published
from localemp.reporting.report import Report
from localemp.reporting.systems import has_reply, names_of, read_systems
from localemp.reporting.tables import Table
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
            in tables as a mapping, or as "NAME=PATH". A run without a reply is left out and named if there are others.
        html: The file for one self-contained page.
        markdown: A file for the tables as Markdown.
        latex: A file for the tables for LaTeX (booktabs).
        csv: A folder for one file per table, or a name ending in .csv for one file with all cells.
        study: Folders of studies, whose tables are added; names as for runs.
        against: The name of a run, or of one for each model: how far each other run of the model differs from it, with
            intervals and p-values.
        common: Score all runs on the dialogues that all of them answered.
        published: "none" to omit the paper's rows, or a TOML file with others.
        title: Title of the page.
        cases: Number of dialogues in the page's case study; None for all.
        on_progress: Called with systems read.

    Raises:
        RunError: A folder holds no run or study, or no run has a reply yet.
        DataError: A file holds no scores, or breaks a rule.
        UnknownNameError: No run is called as `against` says.
        OptionError: No run is given, a file cannot be written, or runs share no dialogue.
    """
    if not (given := named_paths(runs)):
        raise OptionError("nothing to report", "give runs (`localemp runs list` shows them)")
    known = published_of(published)
    answered = [(name, path) for name, path in given if has_reply(path)]
    empty = [name or path.name for name, path in given if (name, path) not in answered]
    names = {path: name for name, path in given if name}
    systems = tuple(read_systems([path for _, path in answered or given], common, on_progress, names))
    bases = [against] if isinstance(against, str) else list(against)
    results = (
        difference_tables(differences(systems, bases_of(systems, bases), on_progress=on_progress)) if bases else []
    )
    results += of_studies(named_paths(study), [system.name for system in systems], known)
    made = Report(systems, known, tuple(results), cases, tuple(f"{name} is not here: no reply yet." for name in empty))
    written = []
    if html is not None:
        from localemp.reporting.page import render

        written.append(write_text(Path(html), render(made, title), "--html"))
    return ReportResult(made, (*written, *write_tables(made.tables, markdown, latex, csv)))


def of_studies(studies: Sequence[tuple[str, Path]], runs: Sequence[str], known: Published) -> list[Table]:
    """Return the tables of studies.

    Args:
        studies: Names and folders; a name is put before the titles where there are several, or where it is given.
        runs: The runs beside which they stand.
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
    return [
        table
        for (given, folder), name in zip(studies, called, strict=True)
        for table in study_tables(study_results(open_study(folder)), given or name, runs, known)
    ]
