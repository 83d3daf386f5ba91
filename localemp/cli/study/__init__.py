"""`localemp study`: one module per command."""

import click

from localemp.cli.lazy import LazyGroup

COMMANDS = {
    "create": ("study.create", "Make a blinded study of runs."),
    "judge": ("study.judge", "Let a model rate it."),
    "serve": ("study.serve", "Let people rate it, on a page."),
    "import": ("study.importing", "Take ratings from a CSV file."),
    "export": ("study.export", "Write all answers as CSV or JSON lines."),
    "report": ("study.report", "Means, preferences, agreement, and how a judge compares with people."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def study() -> None:
    """Blinded human and model evaluation of replies (sections 4.3 and 5.4)."""
