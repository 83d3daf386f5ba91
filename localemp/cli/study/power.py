"""`localemp study power`: how many dialogues a study needs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.types import PATH
from localemp.utils.formatting import count
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from localemp.commands.study import PowerResult
    from localemp.reporting.tables import Table
    from localemp.studies.schema import Kind


@click.command(cls=Command)
@click.option("--effect", type=float, help="The difference to be found; without it, the smallest for --dialogues.")
@click.option("--kind", type=click.Choice(["ab", "rating"]), show_default="that of --like, or ab", help="Of the study.")
@click.option("--raters", type=int, default=3, show_default=True, help="Raters who answer about each dialogue.")
@click.option("--ties", type=float, show_default="that of --like, or 0.2", help="Share of ties (ab).")
@click.option(
    "--agreement",
    type=float,
    show_default="that of --like, or 0.25",
    help="Correlation of two raters' answers to one item (intraclass; about Krippendorff's alpha).",
)
@click.option(
    "--sd", type=float, show_default="that of --like, or 1", help="Standard deviation of one rater's ratings (rating)."
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Significance level.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Probability of a significant result.")
@click.option("--dialogues", type=int, help="Number of dialogues, if it is fixed.")
@click.option(
    "--tests", type=int, default=1, show_default=True, help="Tests that share alpha: pairs of systems times aspects."
)
@click.option(
    "--like", type=PATH, metavar="STUDY", help="A study with answers, such as a pilot: its ties, agreement, sd."
)
@click.option(
    "--drop-failed", is_flag=True, help="Leave out raters of --like who missed half or more of the attention checks."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, unrounded.")
def power(
    effect: float | None,
    kind: "Kind | None",
    raters: int,
    ties: float | None,
    agreement: float | None,
    sd: float | None,
    alpha: float,
    power: float,
    dialogues: int | None,
    tests: int,
    like: Path | None,
    drop_failed: bool,
    as_json: bool,
) -> None:
    """Plan a study: how many dialogues show a difference, or which difference a number of dialogues shows.

    The difference (--effect) in an A/B study is the share of votes for one system minus that for the other, over all
    votes: 0.1 is 55 : 45 without ties, 45 : 35 with 20 % ties. In a rating study it is between mean ratings, in points
    of the scale.
    """
    from localemp.cli.tables import print_table
    from localemp.commands.study import power as plan
    from localemp.utils.text import json_text

    result = plan(
        effect,
        kind=kind,
        raters=raters,
        ties=ties,
        agreement=agreement,
        sd=sd,
        alpha=alpha,
        power=power,
        dialogues=dialogues,
        tests=tests,
        like=like,
        drop_failed=drop_failed,
    )
    if as_json:
        click.echo(json_text(result.as_dict(), indent=2))
        return
    click.echo(found(result))
    for line in _made(result):
        click.echo(line)
    print_table(_table(result))
    for note in result.notes:
        click.echo(f"note: {for_terminal(note)}", err=True)


def found(result: "PowerResult") -> str:
    """Return the plan as one sentence."""
    design, effect = result.design, result.effect
    if design.kind == "ab":
        win, lose = ((1 - design.ties + sign * effect) / 2 for sign in (1, -1))
        ties = f" : {100 * design.ties:.3g} ties" if design.ties else ""
        size = f"{effect:.3g} ({100 * win:.3g} : {100 * lose:.3g}{ties})"
    else:
        size = f"{effect:.3g} {'point' if effect == 1 else 'points'}"
    who = f"{count(result.dialogues, 'dialogue')}, {count(design.raters, 'rater')}"
    return f"{who}: a difference of {size} is found with a power of {_percent(result.power)}"


def _made(result: "PowerResult") -> list[str]:
    """Return how the plan was made, line by line."""
    design = result.design
    shared = f" / {design.tests:,} tests (Bonferroni) = {design.level:.2g}" if design.tests > 1 else ""
    lines = [f"test: paired t-test over dialogues, two-sided, p < {design.alpha:g}{shared}, as in `study report`"]
    if result.majorities is not None and design.raters > 1:
        lines.append(f"majorities: their exact binomial test has a power of {_percent(result.majorities)}")
    values = design.as_dict()
    lines += [f"{name}: {values[name]:.3g} ({for_terminal(source)})" for name, source in result.sources.items()]
    return lines


def _table(result: "PowerResult") -> "Table":
    from localemp.reporting.tables import NOT_AVAILABLE, Cell, Row, Table
    from localemp.studies.stats.power import MOST_DIALOGUES

    by_effect = result.solved == "effect"
    rows: dict[int, list[Cell]] = {}
    for each in result.trade_offs:
        if by_effect:
            cell = Cell(NOT_AVAILABLE if each.effect is None else f"{each.effect:.3g}", each.effect)
        else:
            cell = Cell(f">{MOST_DIALOGUES:,}" if each.dialogues is None else f"{each.dialogues:,}", each.dialogues)
        rows.setdefault(each.raters, []).append(cell)
    wanted = dict.fromkeys(each.power for each in result.trade_offs)
    return Table(
        key="power",
        kind="people",
        title="Smallest difference that is found"
        if by_effect
        else f"Dialogues for a difference of {result.effect:.3g}",
        head="Raters",
        columns=tuple(f"power {100 * power:.3g}%" for power in wanted),
        rows=tuple(Row(f"{raters:,}", tuple(cells)) for raters, cells in rows.items()),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
