"""`localemp study`: one module per command."""

import click

from localemp.cli.lazy import LazyGroup

COMMANDS = {
    "power": ("study.power", "Plan a study: how many dialogues it needs."),
    "create": ("study.create", "Make a blinded study of runs."),
    "calibrate": ("study.calibrate", "Measure judges on replies that people rated."),
    "judge": ("study.judge", "Let a model rate a study."),
    "serve": ("study.serve", "Let people rate a study on a web page."),
    "import": ("study.importing", "Import ratings from a CSV file."),
    "export": ("study.export", "Export all answers as CSV or JSON lines."),
    "report": ("study.report", "Report means, preferences, agreement, and judges against people."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def study() -> None:
    """Blinded human and model evaluation of replies (sections 4.3 and 5.4)."""
