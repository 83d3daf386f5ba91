"""`localemp study export`: all answers as CSV or JSON lines."""

import sys
from pathlib import Path
from typing import Literal

import click

from localemp.cli.command import Command
from localemp.cli.types import PATH
from localemp.utils.formatting import count


@click.command(cls=Command)
@click.argument("study", type=PATH)
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--out", type=PATH, help="File to write; by default the answers are printed.")
@click.option("--unblinded", is_flag=True, help="Name systems and dialogues.")
def export(study: Path, form: Literal["csv", "jsonl"], out: Path | None, unblinded: bool) -> None:
    """Export the newest answers of people, imported files and judges."""
    from localemp.commands.study import export as export_answers
    from localemp.utils.text import for_terminal

    result = export_answers(study, format=form, out=out, unblinded=unblinded)
    if out is None:
        click.echo(for_terminal(result.text) if sys.stdout.isatty() else result.text, nl=False)
    else:
        click.echo(f"{count(result.answers, 'answer')}: {out}")
