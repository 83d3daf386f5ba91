"""`localemp runs list`: what runs there are, how far they got, and which has the best score."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.tables import show_table
from localemp.cli.types import PATH
from localemp.utils.formatting import percent

if TYPE_CHECKING:
    from rich.text import Text

    from localemp.commands.run_list import ListedRun, RunList

_WIDE = 120
_FOLDED = 20  # characters of a path; what is longer may not fit with a hash behind it
_HASH = re.compile("[0-9a-f]{8}")
_ORDERS = {
    True: "the highest first",
    False: "the lowest first, since lower is better",
    None: "the highest first, which says nothing of quality",
}


@click.command("list", cls=Command)
@click.argument("parent", type=PATH, default="runs")
@click.option(
    "--by", metavar="METRIC", help="Sort by this score, such as F_BERT, the best first; `localemp score` keeps scores."
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_(parent: Path, by: str | None, as_json: bool) -> None:
    """List the runs in a folder (`runs` by default).

    For each: model, strategy, data, how many of its dialogues have a reply, and when it was started, in this machine's
    time zone.
    """
    from localemp.commands.run_list import list_runs
    from localemp.utils.text import json_text

    listed = list_runs(parent, by=by)
    if as_json:
        click.echo(json_text(listed.as_dict(), indent=2))
        return
    if not listed.runs:
        click.echo(f"no runs in {parent}; create one with `localemp generate`")
        return
    _print(listed)
    for run in listed.runs:
        if run.damaged:
            click.echo(f"warning: {run.damaged}", err=True)


def _print(listed: "RunList") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    wide = Console().width >= _WIDE
    break_ = " " if wide else "\n"
    made = ["Model", "Strategy"] if wide else ["Model\nStrategy"]
    by = [] if listed.by is None else [Column(listed.by.replace(" ", break_), justify="right")]
    table = Table(
        Column("Run", overflow="fold"),
        *by,
        *(Column(head, overflow="fold") for head in (*made, "Data")),
        Column("Replies", justify="right", no_wrap=True),
        Column("Started", no_wrap=True),
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for run in listed.runs:
        if run.damaged:
            table.add_row(_folder(run, wide), *([""] if by else []), "damaged")
            continue
        what = [run.model, run.strategy] if wide else [f"{run.model}\n{run.strategy}"]
        table.add_row(
            _folder(run, wide),
            *([_score(run)] if by else []),
            *map(plain, (*what, run.data or "–")),
            _done(run, break_),
            "–" if run.started is None else f"{run.started.astimezone():%Y-%m-%d{break_}%H:%M}",
        )
    show_table(table)
    _print_notes(listed)


def _folder(run: "ListedRun", wide: bool) -> "Text":
    """Return the path; in a narrow table a long one has its hash on a line of its own."""
    from localemp.cli.replies import plain

    name, hyphen, last = str(run.folder).rpartition("-")
    folds = not wide and len(name) > _FOLDED and bool(_HASH.fullmatch(last))
    return plain(f"{name}{hyphen}\n{last}" if folds else str(run.folder))


def _score(run: "ListedRun") -> "Text":
    from localemp.cli.replies import plain
    from localemp.metrics.registry import decimals

    if run.score is None or run.value is None:
        return plain("n/a")
    return plain(f"{run.value:.{decimals(run.score.name)}f}") + plain(run.mark, "yellow")


def _done(run: "ListedRun", break_: str) -> str:
    """How many dialogues have a reply, of how many: "120 of 2,500 (5 %)"."""
    told = f"{run.replies:,}"
    if run.dialogues:
        told += f" of {run.dialogues:,}{break_}({percent(run.replies, run.dialogues)})"
    return told + (f"{break_}{run.failed:,} failed" if run.failed else "")


def _print_notes(listed: "RunList") -> None:
    from localemp.metrics.registry import metric_entries

    if listed.by is None:
        return
    click.echo(f"by {listed.by}: {_ORDERS[listed.higher_is_better]}")
    for note in listed.notes:
        click.echo(note)
    reasons: dict[str, list[str]] = {}
    for run in listed.runs:
        if run.unscored and not run.damaged:
            reasons.setdefault(run.unscored, []).append(str(run.folder))
    for reason, folders in reasons.items():
        click.echo(f"n/a: {', '.join(folders)}: {reason}")
    if reasons:
        option = metric_entries()[listed.by].on_request
        click.echo(f"`localemp score{option and ' '}{option} RUN` scores a run")
