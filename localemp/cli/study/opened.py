"""Open a study for a command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from localemp.studies.study import Study


def opened(folder: Path) -> "Study":
    """Read a study; restrict its key and answers to the owner, with a warning where they were not.

    Raises:
        RunError: There is none, or its files are damaged.
    """
    from localemp.studies.privacy import close_to_others
    from localemp.studies.study import Study

    study = Study.read(folder)
    for note in close_to_others(folder):
        click.echo(f"warning: {for_terminal(note)}", err=True)
    return study
