"""`localemp experiment PLAN`, `experiment show` and `experiment list`: one module per command."""

import click

from localemp.cli.experiment.group import PlanGroup

COMMANDS = {
    "show": ("experiment.show", "Show where each row of an experiment stands, or the rows of a plan."),
    "list": ("experiment.listing", "List experiments, and the bundled plans."),
}


@click.group(cls=PlanGroup, commands_of=COMMANDS, otherwise="experiment.run")
def experiment() -> None:
    """Answer all rows of a plan, and score, compare and report them."""
