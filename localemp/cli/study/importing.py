"""`localemp study import`: ratings from a file of comma-separated values."""

import shlex
from pathlib import Path

import click

from localemp.cli.study.opened import opened
from localemp.utils.text import for_terminal
from localemp.utils.words import count


@click.command("import")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, metavar="CSV...", type=click.Path(path_type=Path))
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Our name of a column or aspect and the file's; may be repeated.")  # fmt: skip
def import_(study: Path, files: tuple[Path, ...], columns: tuple[str, ...]) -> None:
    """Import ratings from a spreadsheet or a crowd platform.

    A file has columns rater, item (or dialogue), and aspect and value, or one column for each aspect; reply or system
    says what was rated. A mistake in a file, and nothing is taken. An answer that is imported again replaces the
    earlier one.
    """
    from localemp.errors import OptionError
    from localemp.studies.answers import AnswerStore
    from localemp.studies.importing import keep_ratings, read_ratings
    from localemp.studies.study import ANSWERS

    renamed = {}
    for pair in columns:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise OptionError(f"--column {pair!r} is not OURS=THEIRS", "for example rater=annotator")
        renamed[ours] = theirs
    rated = opened(study)
    votes = [vote for file in files for vote in read_ratings(file, rated, renamed)]
    answers = AnswerStore(study / ANSWERS, rated)
    try:
        replaced = keep_ratings(answers, votes)
    finally:
        answers.close()
    raters = len({vote.rater for vote in votes})
    items = len({vote.item for vote in votes})
    click.echo(f"{count(len(votes), 'rating')} of {count(raters, 'rater')} on {count(items, 'item')}")
    voted = {vote.aspect for vote in votes}
    if silent := [aspect.name for aspect in rated.manifest.aspects if aspect.name not in voted]:
        hint = f"if a column has them, name it: --column {shlex.quote(silent[0])}=THEIRS"
        click.echo(for_terminal(f"note: no rating of {', '.join(silent)}; {hint}"), err=True)
    if replaced:
        click.echo(f"{replaced:,} of them replaced another answer of an earlier import")
    click.echo(f"next: `localemp study report {study}`")
