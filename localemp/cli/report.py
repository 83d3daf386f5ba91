"""`localemp report`: tables, figures and a page from runs, beside the paper's figures."""

from pathlib import Path
from typing import Literal

import click

from localemp.cli.command import Command
from localemp.cli.completion import complete_runs
from localemp.cli.tables import echo_written, print_tables, published_option, table_options
from localemp.cli.types import PATH

_OUT = PATH


@click.command(cls=Command, needs={"title": ("html",), "cases": ("html",)})
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH, shell_complete=complete_runs)
@click.option("--html", type=_OUT, help="Write one self-contained page: tables, figures, case study.")
@table_options
@click.option(
    "--study", "studies", type=_OUT, multiple=True, help="Add the tables of a study's folder; may be repeated."
)
@click.option(
    "--against",
    multiple=True,
    metavar="NAME",
    help="A run's name: how far the others differ from it, with intervals and p-values. May be repeated, for a "
    "run of each model.",
)
@click.option(
    "--by", type=click.Choice(["emotion"]), help="Add a table of each run's metrics by the speaker's emotion."
)
@click.option(
    "--bold",
    is_flag=True,
    help="Make the best value of each column bold, and those that are not significantly worse, which is tested.",
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
    against: tuple[str, ...],
    by: Literal["emotion"] | None,
    bold: bool,
    common: bool,
    published: str | None,
    title: str | None,
    cases: int | None,
) -> None:
    """Make tables, figures and a page from runs.

    RUN is a run's folder, or the FILE.scores.json that `localemp score --import` wrote for replies made elsewhere; as
    NAME=RUN, tables call it NAME.
    Scores are read from beside a run; what is missing is computed,
    except what needs a model (BERTScore, METEOR, EPITOME), which `localemp score` adds.
    Without an option that names a file, the tables are printed.
    """
    from localemp.cli.display import Display
    from localemp.commands.report import report as make_report

    with Display() as display:
        result = make_report(
            runs,
            html=html,
            markdown=markdown,
            latex=latex,
            csv=csv,
            study=studies,
            against=against,
            by=by,
            bold=bold,
            common=common,
            published=published,
            title=title,
            cases=cases,
            on_progress=display.on_progress,
        )
    echo_written(result.written)
    if not result.written:
        print_tables(result.tables)
