"""`localemp study export`: all answers as CSV or JSON lines."""

import sys
from pathlib import Path

import click

from localemp.cli.study.opened import opened
from localemp.utils.words import count


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; without it, the answers are printed.")
@click.option("--unblinded", is_flag=True, help="Name systems and dialogues.")
def export(study: Path, form: str, out: Path | None, unblinded: bool) -> None:
    """Export the newest answers of people, imported files and judges."""
    from localemp.errors import OptionError
    from localemp.studies.answers import AnswerStore
    from localemp.studies.exporting import all_votes, as_csv, as_jsonl, lines_of
    from localemp.studies.study import ANSWERS
    from localemp.utils.files import write_atomically, write_errors
    from localemp.utils.text import for_terminal

    rated = opened(study)
    answers = AnswerStore(study / ANSWERS, rated)
    given = all_votes(rated, answers)
    answers.close()
    lines = lines_of(given, rated, unblinded)
    text = as_csv(lines, unblinded) if form == "csv" else as_jsonl(lines)
    if out is None:
        click.echo(for_terminal(text) if sys.stdout.isatty() else text, nl=False)
        return
    with write_errors(lambda message, hint: OptionError(f"--out {out}: {message}", hint), "name another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        if unblinded and (out.is_file() or not out.exists()):  # like the study's key, for its owner alone
            write_atomically(out.resolve(), text, mode=0o600)
        else:
            out.write_text(text, "utf-8")
    click.echo(f"{count(len(given), 'answer')}: {out}")
