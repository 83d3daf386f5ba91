"""Tables in the terminal and in files, shared by `report` and `study report`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.types import PATH
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

    from localemp.reporting.tables import Cell, Row, Table

_OUT = PATH
_OPTIONS = (
    click.option("--markdown", type=_OUT, help="Write the tables as Markdown."),
    click.option("--latex", type=_OUT, help="Write the tables for LaTeX (booktabs)."),
    click.option(
        "--csv", type=_OUT, help="A folder: one file a table. A name that ends in .csv: all cells in one file."
    ),
)
published_option = click.option(
    "--published",
    metavar="none|FILE",
    help="Leave the paper's rows out, or take others from a file (TOML); docs/reporting.md has the form.",
)
_WIDE = 110
_NARROWEST_NAME = 14
_WIDEST = 400


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name files for tables."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def echo_written(paths: "Sequence[Path]") -> None:
    """Print which files were written."""
    for path in paths:
        click.echo(f"written: {path}")


def show_table(table: "RichTable") -> None:
    """Print a table; where it does not go to a terminal, it is as wide as its content."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        free = console.options.update(width=_WIDEST)
        console.width = max(console.width, console.measure(table, options=free).maximum)
    console.print(table)


def print_tables(tables: "Sequence[Table]") -> None:
    """Print tables, each definition once."""
    from localemp.reporting.tables import told_once

    for table in told_once(tables):
        print_table(table)


def print_table(table: "Table") -> None:
    """Print a table with its notes, split to fit the terminal's width."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column
    from rich.table import Table as Shown

    console = Console()
    wide = console.width >= _WIDE
    columns = map(for_terminal, table.columns)
    heads = [column if wide else column.replace(" ", "\n") for column in columns]
    for number, part in enumerate(_parts(table, heads, console.width, wide)):
        beside = [Column(_text(heads[place]), justify="right", no_wrap=True) for place in part]
        head = Column(_text(table.head), overflow="fold", min_width=_NARROWEST_NAME)
        title = _text(table.title, ", continued" if number else "")
        shown = Shown(head, *beside, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, int(wide)))
        for rule, row in table.parted:
            if rule:
                shown.add_section()
            cells = [_shown(row.cells[place]) for place in part]
            shown.add_row(_name(row, wide), *cells, style="dim italic" if row.published else "")
        console.print(shown)
    for note in table.notes:
        mark = f"{note.mark}: " if note.mark else ""
        console.print(_text((mark, "yellow"), (note.text, "dim")))
    console.print()


def _parts(table: "Table", heads: Sequence[str], width: int, wide: bool) -> Iterator[list[int]]:
    """Return groups of columns that fit next to each other and the rows' names."""
    between = 3 if wide else 1
    part: list[int] = []
    room = start = width - 2 - _NARROWEST_NAME
    for place, head in enumerate(heads):
        lines = [
            *head.split("\n"),
            *(line for row in table.rows for line in _shown(row.cells[place]).plain.split("\n")),
        ]
        needed = max(map(len, lines)) + between
        if part and needed > room:
            yield part
            part, room = [], start
        part.append(place)
        room -= needed
    yield part


def _shown(cell: "Cell") -> "Text":
    return _text((cell.text, "bold" if cell.bold else ""), (cell.mark, "bold yellow"))


def _name(row: "Row", wide: bool) -> "Text":
    if row.published:  # one line: there are many of them
        about = row.about if wide else row.about.removeprefix("the paper's ")
        return _text(row.name, (f", {about}", "dim"))
    about = f"\n{row.about}" if row.about and wide else ""
    warning = f"\n{row.warning}" if row.warning else ""
    return _text(row.name, (warning, "yellow"), (about, "dim"))


def _text(*parts: str | tuple[str, str]) -> "Text":
    """Return styled text; untrusted names and texts are escaped."""
    from rich.text import Text

    styled = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((for_terminal(text), style) for text, style in styled))
