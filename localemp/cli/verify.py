"""`localemp runs verify`: ask for a sample of a run's replies again, and compare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.bench.options import number_list
from localemp.cli.command import Command
from localemp.cli.completion import complete_runs
from localemp.cli.types import NAME, PATH, FilePath
from localemp.utils.formatting import count
from localemp.utils.text import for_terminal, json_text

if TYPE_CHECKING:
    from localemp.runs.verified import FailedCall, Parting, Verification


@click.command(cls=Command)
@click.argument("run", type=PATH, shell_complete=complete_runs)
@click.option("--sample", type=click.IntRange(min=1), default=50, show_default=True, help="Replies to ask for again.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample, and of the order of requests.")
@click.option(
    "--batch-sizes",
    callback=number_list(int),
    default="1,8,64",
    show_default=True,
    help="Requests in flight; each reply is asked for at each.",
)
@click.option("--anyway", is_flag=True, help="Go on if weights, versions or hardware are not those of the run.")
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="Most differences to show.")
@click.option("--model", "-m", type=NAME, help="The model, if it is not found by the name that the run has recorded.")
@click.option("--adapter", type=NAME, help="The adapter, if it is not found where the run had it.")
@click.option("--base-url", help="The server that answered the run; your key is sent to no other.")
@click.option(
    "--engine-arg",
    "engine_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="Engine argument for vLLM besides those of the run, such as gpu_memory_utilization=0.5; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--script", type=FilePath(exists=True, dir_okay=False), hidden=True, help="The file that answered the run."
)
def verify(
    run: Path,
    sample: int,
    seed: int,
    batch_sizes: tuple[int, ...],
    anyway: bool,
    limit: int,
    model: str | None,
    adapter: str | None,
    base_url: str | None,
    engine_args: tuple[str, ...],
    as_json: bool,
    script: Path | None,
) -> None:
    """Ask for a sample of a run's replies again, in other batches and with an empty prefix cache.

    What is found is added to verified.json in the run's folder. The exit code is 1 if a request failed, or if a reply
    differs although the run was made with --deterministic.
    """
    from localemp.cli.display import Display
    from localemp.cli.options import parse_engine_args
    from localemp.commands.verify import verify as ask_again

    with Display() as display:
        found = ask_again(
            run,
            sample=sample,
            seed=seed,
            batch_sizes=batch_sizes,
            anyway=anyway,
            model=model,
            adapter=adapter,
            base_url=base_url,
            engine_args=parse_engine_args(engine_args),
            script=script,
            on_progress=display.on_progress,
        )
    if as_json:
        click.echo(json_text(found.model_dump(mode="json"), indent=2))
    else:
        _print(found, limit, run)
    if not found.holds:
        sys.exit(1)


def _print(found: "Verification", limit: int, run: Path) -> None:
    from rich.table import Column, Table

    from localemp.cli.tables import show_table
    from localemp.runs.verified import VERIFIED

    numbers = [Column(name, justify="right") for name in ("Batch size", "In flight", "Equal", "Different", "Failed")]
    table = Table(*numbers, "Prefix cache")
    for each in found.sizes:
        cells = (each.batch_size, each.in_flight, each.equal, each.different, each.failed)
        table.add_row(*map(str, cells), "empty" if each.cold else "unknown")
    show_table(table)
    for parting in found.partings[:limit]:
        _print_parting(parting)
    if len(found.partings) > limit:
        click.echo(f"and {count(len(found.partings) - limit, 'more difference')}, in {run / VERIFIED}")
    for failure in found.failures[:limit]:
        click.echo(for_terminal(f"{_called(failure)}: failed: {failure.error.get('message', '')}"))
    how = f"deterministic: {found.deterministic}; " if found.deterministic else ""
    click.echo(f"{found.summary} ({how}{found.where})")
    if found.different and not found.claimed:
        click.echo("batches change replies that are not made with --deterministic: see docs/determinism.md")
    elif found.different:
        click.echo("the run was made with --deterministic: its replies should be equal", err=True)
    click.echo(for_terminal(f"certificate: {run / VERIFIED}"))


def _print_parting(parting: "Parting") -> None:
    """Print where an answer parts, and both ways on from there."""
    token = "" if parting.token is None else f", token {parting.token}"
    what = "" if parting.what == "text" else f"{parting.what}, "
    click.echo(for_terminal(f"{_called(parting)}: {what}character {parting.character}, word {parting.word}{token}"))
    lead = ("..." if parting.character > len(parting.common) else "") + parting.common
    for when, text in (("recorded", parting.before), ("now", parting.now)):
        click.echo(for_terminal(f"  {when:8} {lead}|{text}".replace("\n", " ")))


def _called(call: "Parting | FailedCall") -> str:
    return f"{call.id}, {call.stage}, batch size {call.batch_size}"
