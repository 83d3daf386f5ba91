"""`localemp report`: tables, figures and a page from runs, beside the paper's figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.study.opened import opened
from localemp.cli.tables import print_table, published_of, published_option, table_options, write, write_tables

if TYPE_CHECKING:
    from localemp.reporting.published import Published
    from localemp.reporting.tables import Table

_OUT = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--html", type=_OUT, help="Write one self-contained page: tables, figures, case study.")
@table_options
@click.option(
    "--study", "studies", type=_OUT, multiple=True, help="Add the tables of a study's folder; may be repeated."
)
@click.option("--common", is_flag=True, help="Score all runs on the dialogues that all of them answered.")
@published_option
@click.option("--title", help="The page's title.")
@click.option("--cases", type=click.IntRange(min=0), help="Dialogues in the page's case study; all by default.")
def report(
    runs: tuple[Path, ...],
    html: Path | None,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
    studies: tuple[Path, ...],
    common: bool,
    published: str | None,
    title: str | None,
    cases: int | None,
) -> None:
    """Make tables, figures and a page from runs.

    RUN is a run's folder, or the FILE.scores.json that `localemp score --import` wrote for replies made elsewhere.
    Scores are read from beside a run; what is missing is computed, except BERTScore, which `localemp score` adds.
    Without an option that names a file, the tables are printed.
    """
    from localemp.reporting.report import Report
    from localemp.reporting.systems import read_systems

    known = published_of(published)
    systems = tuple(read_systems(runs, common))
    made = Report(systems, known, _results(studies, [system.name for system in systems], known), cases)
    if html:
        from localemp.reporting.page import render

        write(html, render(made, title), "--html")
    write_tables(made.tables, markdown, latex, csv)
    if not (html or markdown or latex or csv):
        for table in made.tables:
            print_table(table)


def _results(studies: tuple[Path, ...], runs: list[str], known: "Published") -> "tuple[Table, ...]":
    if not studies:
        return ()
    from localemp.reporting.systems import names_of
    from localemp.studies.report.results import study_results
    from localemp.studies.report.tables import study_tables

    names = names_of(studies) if len(studies) > 1 else [""]
    return tuple(
        table
        for folder, name in zip(studies, names, strict=True)
        for table in study_tables(study_results(opened(folder)), name, runs, known)
    )
