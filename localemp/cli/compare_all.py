"""What `localemp compare` prints of more than two runs."""

from typing import TYPE_CHECKING

import click

from localemp.cli.tables import show_table
from localemp.utils.formatting import count

if TYPE_CHECKING:
    from localemp.commands.compare_all import CompareAllResult
    from localemp.metrics.significance import Comparison

_SIGNIFICANT = 0.05


def print_all(result: "CompareAllResult", verbose: bool) -> None:
    """Print the systems, a row for each metric and pair, and how the numbers were made."""
    from localemp.reporting.systems import describe

    for letter, system in result.systems.items():
        source = system.source
        made = f"{describe(source['settings'])}, " if "settings" in source else ""
        click.echo(f"{letter}: {source.get('run', system.name)}, {made}{count(len(system), 'reply', 'replies')}")
    for note in result.notes:
        click.echo(f"note: {note}")
    told: dict[str, list[str]] = {}
    for each in result.pairs:
        for note in each.notes:
            told.setdefault(note, []).append(f"{each.a}-{each.b}")
    for note, pairs in told.items():
        whose = "all pairs" if len(pairs) == len(result.pairs) > 1 else ", ".join(pairs)
        click.echo(f"note: {whose}: {note}")
    _print_table(result)
    _print_method(result)
    if verbose:
        for one in result.pairs[0].comparisons:
            click.echo(f"{one.name}: {one.signature}")


def _print_table(result: "CompareAllResult") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    items = {each.items for each in result.pairs}
    title = count(items.pop(), "dialogue") if len(items) == 1 else ""
    right = [Column(head, justify="right", no_wrap=True) for head in ("1st", "2nd", "2nd - 1st")]
    table = Table(
        Column("Metric", min_width=6),
        Column("Pair", no_wrap=True),
        *right,
        Column(f"{100 * result.confidence:.4g} % interval", justify="right", no_wrap=True),
        Column("p Holm", no_wrap=True),
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in zip(*(each.comparisons for each in result.pairs), strict=True):
        if not any(one.a is not None or one.b is not None for one in column):
            continue
        for number, (each, one) in enumerate(zip(result.pairs, column, strict=True)):
            table.add_row(one.name if not number else "", f"{each.a}-{each.b}", *_cells(one))
        table.add_section()
    show_table(table)


def _cells(one: "Comparison") -> list[str]:
    from localemp.metrics.registry import decimals

    places = decimals(one.name)
    values = [_number(one.a, f".{places}f"), _number(one.b, f".{places}f"), _number(one.difference, f"+.{places}f")]
    ends = None if one.interval is None else ", ".join(f"{end:+.{places}f}" for end in one.interval)
    mark = " *" if one.p_holm is not None and one.p_holm < _SIGNIFICANT else ""
    return [*values, rf"\[{ends}]" if ends else "n/a", _number(one.p_holm, ".3f") + mark]


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _print_method(result: "CompareAllResult") -> None:
    from localemp.metrics.significance import JACKKNIFE

    every = [(f"{each.a}-{each.b}", one) for each in result.pairs for one in each.comparisons]
    reasons: dict[str, list[str]] = {}
    for _, one in every:
        if one.reason:
            reasons.setdefault(one.reason, []).append(one.name)
    for reason, names in reasons.items():
        click.echo(f"n/a: {', '.join(dict.fromkeys(names))}: {reason}")
    lower = dict.fromkeys(one.name for _, one in every if one.higher_is_better is False and one.a is not None)
    if lower:
        click.echo(f"lower is better: {', '.join(lower)}")
    jackknifed = ", ".join(dict.fromkeys(one.name for _, one in every if one.interval_by == JACKKNIFE))
    pairs = count(len(result.pairs), "pair")
    click.echo(
        f"p: approximate randomisation, two-sided, {result.samples:,} samples, seed {result.seed}; corrected by Holm's "
        f"method over the {pairs} of each metric, not over metrics; * below {_SIGNIFICANT}"
    )
    click.echo(
        f"intervals: all {pairs} of a metric hold together with 95 % (Bonferroni); paired bootstrap, the same samples"
        + (f"; jackknife: {jackknifed}" if jackknifed else "")
    )
    click.echo(
        "two runs alone (`localemp compare RUN RUN`) have uncorrected p, t-tests, and dialogues that differ most"
    )
