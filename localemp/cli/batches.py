"""`localemp batches`: how the batches of a run stand at the service that answers them, and cancelling them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Group
from localemp.cli.completion import complete_runs
from localemp.cli.tables import show_table
from localemp.cli.types import PATH
from localemp.utils.formatting import count
from localemp.utils.text import for_terminal, json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localemp.commands.batches import BatchStatus

_base_url = click.option(
    "--base-url", help="The server, if it is not found by the address that is recorded; your key is sent to it."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def batches() -> None:
    """Show or cancel what a service's Batch API does for a run (`generate --batch`)."""


@batches.command(name="list")
@click.argument("run", type=PATH, shell_complete=complete_runs)
@_base_url
@_json
def list_(run: Path, base_url: str | None, as_json: bool) -> None:
    """Show how a run's batches stand, as the service says now. RUN may be an experiment's or a judge's folder, too."""
    from localemp.commands.batches import list_batches

    _show(list_batches(run, base_url=base_url), run, as_json)


@batches.command()
@click.argument("run", type=PATH, shell_complete=complete_runs)
@_base_url
@_json
def cancel(run: Path, base_url: str | None, as_json: bool) -> None:
    """Cancel a run's batches at the service.

    What is answered by then is billed, and is used when the run's command is given again, which asks for the rest.
    """
    from localemp.commands.batches import cancel_batches

    found = cancel_batches(run, base_url=base_url)
    _show(found, run, as_json)
    if not found or as_json:
        return
    stopping, stopped = (
        sum(each.status == status and not each.fetched for each in found) for status in ("cancelling", "cancelled")
    )
    if stopping:
        being = "is" if stopping == 1 else "are"
        click.echo(f"{count(stopping, 'batch', 'batches')} {being} being cancelled; the service may take some minutes")
    elif stopped:
        click.echo(f"{count(stopped, 'batch', 'batches')} cancelled; nothing is under way any more")
    else:
        click.echo("nothing to cancel: no batch is under way")


def _show(found: "Sequence[BatchStatus]", run: Path, as_json: bool) -> None:
    import time
    from dataclasses import asdict

    from rich.table import Column, Table

    from localemp.cli.replies import plain

    if as_json:
        click.echo(json_text([asdict(each) for each in found], indent=2))
        return
    if not found:
        click.echo(
            for_terminal(f"no batches in {run}; give the folder of a run, an experiment or a judge with --batch")
        )
        return
    table = Table(Column("Batch", overflow="fold"), "Model", "Status", "Answered", "Failed", "Since")
    for each in found:
        since = "" if each.created is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(each.created))
        answered = f"{'?' if each.completed is None else f'{each.completed:,}'} of {each.requests:,}"
        failed = "?" if each.failed is None else f"{each.failed:,}"
        status = each.status.replace("_", " ") + (", fetched" if each.fetched else "")
        table.add_row(*(plain(cell) for cell in (each.name, each.model, status, answered, failed, since)))
    show_table(table)
    for each in found:
        if each.note:
            click.echo(for_terminal(f"{each.name}: {each.note}"))
