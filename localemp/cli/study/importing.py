"""`localemp study import`: ratings from a file of comma-separated values."""

import shlex
from pathlib import Path

import click

from localemp.cli.command import Command
from localemp.cli.types import PATH
from localemp.utils.formatting import count
from localemp.utils.text import for_terminal


@click.command("import", cls=Command)
@click.argument("study", type=PATH)
@click.argument("files", nargs=-1, required=True, metavar="CSV...", type=PATH)
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Map a column or aspect (ours) to a column of the file (theirs); may be repeated.")  # fmt: skip
def import_(study: Path, files: tuple[Path, ...], columns: tuple[str, ...]) -> None:
    """Import ratings from a spreadsheet or a crowd platform.

    A file has columns rater, item (or dialogue), and aspect and value, or one column for each aspect; reply or system
    says what was rated. If a file has a mistake, nothing is imported. An answer that is imported again replaces the
    earlier one.
    """
    from localemp.commands.study import import_ as import_ratings

    result = import_ratings(study, files, column=columns_of(columns))
    raters = len({vote.rater for vote in result.votes})
    items = len({vote.item for vote in result.votes})
    click.echo(f"{count(len(result.votes), 'rating')} of {count(raters, 'rater')} on {count(items, 'item')}")
    if silent := result.unrated:
        hint = f"if a column has them, name it: --column {shlex.quote(silent[0])}=THEIRS"
        click.echo(for_terminal(f"note: no rating of {', '.join(silent)}; {hint}"), err=True)
    if result.replaced:
        click.echo(f"{result.replaced:,} of them replaced another answer of an earlier import")
    click.echo(f"hint: `localemp study report {study}`")


def columns_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return our names of columns, each with the file's.

    Raises:
        OptionError: One is not OURS=THEIRS.
    """
    from localemp.errors import OptionError

    renamed = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise OptionError(f"--column {pair!r} is not OURS=THEIRS", "for example rater=annotator")
        renamed[ours] = theirs
    return renamed
