"""`localemp experiment list`: experiments, and the bundled plans."""

import shutil
from pathlib import Path
from typing import Any

import click

from localemp.cli.command import Command
from localemp.cli.tables import show_table
from localemp.cli.types import PATH
from localemp.utils.text import for_terminal, json_text


@click.command("list", cls=Command)
@click.argument("parent", type=PATH, default="experiments")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(parent: Path, as_json: bool) -> None:
    """List the experiments in a folder (`experiments` by default), and the bundled plans."""
    from localemp.errors import LocalempError, OptionError
    from localemp.experiments.plan import PLANS, read_plan
    from localemp.experiments.states import list_experiments, show
    from localemp.utils.files import is_folder

    if not is_folder(parent) and parent != Path("experiments"):
        raise OptionError(f"{parent} is not a folder", "give the folder with the experiments")
    experiments, damaged = [], []
    for folder in list_experiments(parent):
        try:
            state = show(folder)
        except LocalempError as error:
            damaged.append(error.message)
            continue
        rows = [row for row in state.rows if row.planned]
        experiments.append({
            "folder": str(folder),
            "plan": state.name,
            "models": list(dict.fromkeys(row.model for row in rows)),
            "rows": len(rows),
            "finished": sum(row.state == "finished" for row in rows),
            "replies": sum(row.answered for row in rows),
            "dialogues": sum(row.dialogues for row in rows),
            "failed": sum(row.failed for row in rows),
            "running": state.running,
            "created": state.created,
        })  # fmt: skip
    plans = {name: read_plan(name).about for name in PLANS}
    if as_json:
        click.echo(json_text({"experiments": experiments, "plans": plans}, indent=2))
    else:
        _print_experiments(parent, experiments)
        width = shutil.get_terminal_size().columns
        click.echo("bundled plans (`localemp experiment show NAME`):")
        for name, about in plans.items():
            told = for_terminal(f"{name:<13} {about}")
            click.echo(click.wrap_text(told, width, initial_indent="  ", subsequent_indent=" " * 16))
    for message in damaged:
        click.echo(for_terminal(f"warning: {message}"), err=True)


def _print_experiments(parent: Path, experiments: list[dict[str, Any]]) -> None:
    if not experiments:
        click.echo(f"no experiments in {parent}; run one with `localemp experiment PLAN`")
        return
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    table = Table(Column("Experiment", overflow="fold"), "Models", "Rows", "Replies", "Failed", "Begun")
    for each in experiments:
        running = ", running" if each["running"] else ""
        cells = (
            each["folder"],
            ", ".join(each["models"]),
            f"{each['finished']} of {each['rows']}{running}",
            f"{each['replies']} of {each['dialogues']}",
            str(each["failed"] or ""),
            each["created"][:10],
        )
        table.add_row(*map(plain, cells))
    show_table(table)
