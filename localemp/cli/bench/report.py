"""`localemp bench report` and `compare`: show results, and the changes between two."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.tables import show_table
from localemp.cli.types import PATH

if TYPE_CHECKING:
    from localemp.bench.comparing import Change, Comparison
    from localemp.bench.result import Result

_FILE = PATH


@click.command(cls=Command, needs={"title": ("html",)})
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option("--html", type=_FILE, help="Write one self-contained page with plots and tables.")
@click.option("--markdown", type=_FILE, help="Write the tables as Markdown.")
@click.option("--title", help="The page's title.")
def report(files: tuple[Path, ...], html: Path | None, markdown: Path | None, title: str | None) -> None:
    """Make a page with plots and tables from results of benchmarks.

    FILE is a result of another `bench` command. Results of one kind share their plots. Without --html or --markdown,
    the tables are printed.
    """
    from localemp.bench.result_tables import named, tables_of
    from localemp.cli.bench.printing import print_result
    from localemp.cli.tables import echo_written
    from localemp.commands.tables import write_text

    paths = list({path.resolve(): path for path in files}.values())
    read = _read(paths)
    for path, result in read:
        if not result.points:
            click.secho(f"warning: {path}: nothing was measured", fg="yellow", bold=True, err=True)
    results = named(read)
    if html:
        from localemp.bench.page import render

        echo_written([write_text(html, render(results, title), "--html")])
    if markdown:
        from localemp.reporting.writers import markdown as written

        tables = [table for each in results for table in tables_of(each)]
        echo_written([write_text(markdown, written(tables), "--markdown")])
    if not (html or markdown):
        for each in results:
            print_result(each.result)


def _read(paths: "list[Path]") -> "list[tuple[Path, Result]]":
    """Read all results; the error names every file that is not one."""
    from localemp.bench.result import read_result
    from localemp.errors import DataError, OptionError

    results, broken = [], list[DataError]()
    for path in paths:
        try:
            results.append((path, read_result(path)))
        except DataError as error:
            broken.append(error)
    if len(broken) > 1:
        lines = "".join(f"\n  {error.message}" for error in broken)
        raise OptionError(f"{len(broken)} of {len(paths)} files cannot be used:{lines}", "leave them out")
    if broken:
        raise broken[0]
    return results


@click.command(cls=Command)
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option("--all", "everything", is_flag=True, help="Also show unchanged quantities.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(a: Path, b: Path, everything: bool, as_json: bool) -> None:
    """Show what changed from result A to result B beyond the spread of the repeats.

    A quantity has changed if the ranges of its repeats do not overlap.
    """
    from localemp.bench.comparing import compare as compared
    from localemp.bench.result import read_result
    from localemp.utils.text import json_text

    results = read_result(a), read_result(b)
    comparison = compared(*results)
    if as_json:
        click.echo(json_text(comparison.as_dict(), indent=2))
        return
    for name, path, result in zip("AB", (a, b), results, strict=True):
        click.echo(f"{name}: {result.title} ({path}, {result.created})")
    _print(comparison, everything)


def _print(comparison: "Comparison", everything: bool) -> None:
    from localemp.utils.formatting import count

    for warning in comparison.warnings:
        click.secho(f"warning: {warning}", fg="yellow", bold=True)
    for line in comparison.differences:
        click.echo(f"differs: {line}")
    shown = [change for change in comparison.changes if everything or change.is_change]
    if shown:
        _table(shown)
    for name, lines in (("A", comparison.only_a), ("B", comparison.only_b)):
        for line in lines:
            click.echo(f"only in {name}: {line}")
    known = [change for change in comparison.changes if change.is_change and change.is_known]
    unknown = sum(change.is_change and not change.is_known for change in comparison.changes)
    said = f"{len(known)} of {count(len(comparison.changes), 'value')} changed beyond the spread"
    said += f"; {unknown} differ, but were measured once on one side" if unknown else ""
    click.echo(said + ("" if everything or len(shown) == len(comparison.changes) else "; --all shows all values"))


def _table(changes: "list[Change]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table
    from rich.text import Text

    numbers = [Column(head, justify="right", no_wrap=True) for head in ("A", "B", "B / A")]
    table = Table(
        Column("Point", overflow="fold"), Column("Quantity", overflow="fold"), *numbers, "B is", box=SIMPLE_HEAD
    )
    before = ""
    for change in changes:
        point = f"{change.part}: {change.label}" if change.label else change.part
        ratio = "–" if change.ratio is None else f"{change.ratio:.3f}"
        values = [Text(_cell(change, each)) for each in (change.a, change.b)]
        table.add_row(Text("" if point == before else point), change.quantity.head, *values, ratio, change.verdict)
        before = point
    show_table(table)


def _cell(change: "Change", values: tuple[float, ...]) -> str:
    import statistics

    shown, low, high = map(change.quantity.shown, (statistics.median(values), min(values), max(values)))
    return shown if low == high else f"{shown}\n{low}–{high}"
