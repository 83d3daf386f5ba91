"""`localemp report`: tables, figures and a page from runs, beside the paper's figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from localemp.reporting.tables import Table

_OUT = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--html", type=_OUT, help="Write one self-contained page: tables, figures, case study.")
@click.option("--markdown", type=_OUT, help="Write the tables as Markdown.")
@click.option("--latex", type=_OUT, help="Write the tables for LaTeX (booktabs).")
@click.option("--csv", type=_OUT, help="A folder: one file a table. A name that ends in .csv: all cells in one file.")
@click.option("--common", is_flag=True, help="Score all runs on the dialogues that all of them answered.")
@click.option("--published", type=_OUT, help="The paper's figures (TOML); docs/reporting.md has the form.")
@click.option("--title", help="The page's title.")
@click.option("--cases", type=click.IntRange(min=0), help="Dialogues in the page's case study; all by default.")
def report(
    runs: tuple[Path, ...],
    html: Path | None,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
    common: bool,
    published: Path | None,
    title: str | None,
    cases: int | None,
) -> None:
    """Make tables, figures and a page from runs.

    RUN is a run's folder, or the FILE.scores.json that `localemp score --import` wrote for replies made elsewhere.
    Scores are read from beside a run; what is missing is computed, except BERTScore, which `localemp score` adds.
    Without an option that names a file, the tables are printed.
    """
    from localemp.reporting import writers
    from localemp.reporting.published import read_published
    from localemp.reporting.report import Report
    from localemp.reporting.systems import read_systems

    known = read_published(published)
    made = Report(tuple(read_systems(runs, common)), known, cases=cases)
    if html:
        from localemp.reporting.page import render

        _write(html, render(made, title), "--html")
    if markdown:
        _write(markdown, writers.markdown(made.tables), "--markdown")
    if latex:
        _write(latex, writers.latex(made.tables), "--latex")
    if csv and csv.suffix == ".csv":
        _write(csv, writers.csv_long(made.tables), "--csv")
    elif csv:
        for table in made.tables:
            _write(csv / f"{table.key}.csv", writers.csv_wide(table), "--csv")
    if not (html or markdown or latex or csv):
        for table in made.tables:
            _print(table)


def _write(path: Path, text: str, option: str) -> None:
    from localemp.errors import OptionError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise OptionError(f"{option} {path}: cannot be written: {error.strerror or error}", "name another") from error
    click.echo(f"written: {path}")


def _print(table: "Table") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column
    from rich.table import Table as Shown
    from rich.text import Text

    console = Console()
    wide = console.width >= 110
    heads = [column if wide else column.replace(" ", "\n") for column in table.columns]
    columns = [Column(Text(head), justify="right", no_wrap=True) for head in heads]
    head = Column(Text(table.head), overflow="fold", min_width=14)
    shown = Shown(
        head, *columns, title=Text(table.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, int(wide))
    )
    for row in table.rows:
        cells = [Text.assemble(cell.text, (cell.mark, "bold yellow")) for cell in row.cells]
        about = f"\n{row.about}" if row.about and (wide or row.published) else ""
        warning = f"\n{row.warning}" if row.warning else ""
        name = Text.assemble(row.name, (warning, "yellow"), (about, "dim"))
        shown.add_row(name, *cells, style="dim italic" if row.published else "")
    console.print(shown)
    for note in table.notes:
        mark = f"{note.mark}: " if note.mark else ""
        console.print(Text.assemble((mark, "yellow"), (note.text, "dim")))
    console.print()
