"""Shows what a run will take, and afterwards what it took."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from localemp.cli.tables import show_table
from localemp.utils.formatting import count, share
from localemp.utils.formatting import dollars as in_dollars
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localemp.estimates.estimate import Dollars, Estimate, RowEstimate
    from localemp.estimates.truth import Truth

_DECIMALS = {"dollars": 4, "seconds": 1}  # of other quantities 0
_MOST_NAMES = 3
_HOW = {
    "tokens": "prompt tokens",
    "cache": "prefix cache",
    "replies": "reply tokens",
    "seconds": "time",
    "dollars": "US dollars",
}


def show_estimate(estimate: "Estimate", as_json: bool) -> None:
    """Print an estimate, as a table or as JSON."""
    from localemp.utils.text import json_text

    if as_json:
        click.echo(json_text(estimate.as_dict(), indent=2))
    else:
        print_estimate(estimate)


def print_estimate(estimate: "Estimate") -> None:
    """Print a table with a row for each run, and how its numbers were made."""
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    several = len(estimate.rows) > 1
    heads = ["Calls", "Prompt\ntokens", "Cached", "Reply\ntokens", "at most", "Time"]
    priced = any(row.dollars is not None for row in estimate.rows)
    heads += ["US\ndollars"] if priced else []
    table = Table(
        Column("Row", overflow="fold", min_width=10), *(Column(head, justify="right", no_wrap=True) for head in heads)
    )
    for row in (*estimate.rows, *([estimate.total] if several else [])):
        if several and row.name == "total":
            table.add_section()
        name = row.name or f"{row.model}, {row.strategy}"
        table.add_row(plain(name), *_cells(row), *([_dollars(row.dollars)] if priced else []))
    show_table(table)
    total = estimate.total
    if done := total.dialogues - total.pending:
        click.echo(f"{done:,} of {count(total.dialogues, 'dialogue')} are done already, and not counted")
    if total.shared:
        click.echo(
            f"{count(total.shared, 'call')} will be answered by another row's identical request, and not counted"
        )
    if total.will_not_fit:
        click.echo(f"{count(total.will_not_fit, 'prompt')} will not fit the model's context, and fail")
    if total.exemplars_dropped:
        click.echo(f"{count(total.exemplars_dropped, 'prompt')} will fit only with fewer exemplars")
    for model in dict.fromkeys(row.model for row in estimate.rows):
        dollars = replace(estimate, rows=tuple(row for row in estimate.rows if row.model == model)).total.dollars
        if dollars is not None:
            click.echo(for_terminal(f"{model}: {_prices(dollars)}"))
    if estimate.within_budget is not None:
        click.echo(f"the budget is enough for about {share(estimate.within_budget, total.pending, 'dialogue')}")
    _print_how(estimate)


def print_comparison(rows: "Sequence[tuple[RowEstimate, Truth]]") -> None:
    """Print estimate and truth side by side, of each model or row; nothing if there are none."""
    if not rows:
        return
    from rich.table import Column, Table

    from localemp.cli.replies import plain
    from localemp.estimates.truth import QUANTITIES, compare

    several = len(rows) > 1
    heads = (Column(head, justify="right") for head in ("Estimate", "Truth", "Truth / estimate"))
    what = "Model" if all(row.name == "total" for row, _ in rows) else "Row"
    table = Table(*([Column(what, overflow="fold")] if several else []), "Quantity", *heads)
    for row, truth in rows:
        for number, one in enumerate(compare(row, truth)):
            decimals = _DECIMALS.get(one.name, 0)
            ratio = "" if one.ratio is None else f"{one.ratio:.3f}"
            told = ("" if value is None else f"{value:,.{decimals}f}" for value in (one.estimated, one.actual))
            cells = [QUANTITIES[one.name], *told, ratio]
            name = row.name if row.name != "total" else row.model
            table.add_row(*([plain(name) if number == 0 else ""] if several else []), *cells)
    show_table(table)


def _cells(row: "RowEstimate") -> list[str]:
    from localemp.utils.formatting import duration

    shared = "unknown" if row.cached_share is None else f"{row.cached_share:.0%}"
    time = "unknown" if row.seconds is None else duration(row.seconds)
    return [
        f"{row.calls:,}",
        f"{row.prompt_tokens:,}",
        shared,
        f"{row.reply_tokens:,}",
        f"{row.most_reply_tokens:,}",
        time,
    ]


def _dollars(dollars: "Dollars | None") -> str:
    return "" if dollars is None else in_dollars(dollars.expected)


def _prices(dollars: "Dollars") -> str:
    cached = "unknown" if dollars.cached is None else in_dollars(dollars.cached)
    batch = "unknown" if dollars.batch is None else in_dollars(dollars.batch)
    others = {"flex": dollars.flex, "priority": dollars.priority}
    more = "".join(f", {in_dollars(each)} in the {tier} tier" for tier, each in others.items() if each is not None)
    chosen = (
        "" if dollars.chosen is None else f"{in_dollars(dollars.chosen)} US dollars in the tier that is asked for; "
    )
    return (
        f"{chosen}{in_dollars(dollars.standard)} US dollars at the standard price, {cached} with cached input, {batch} "
        f"in the batch tier{more}; {in_dollars(dollars.most)} if every reply is as long as allowed"
    )


def _print_how(estimate: "Estimate") -> None:
    """Print how each number was made, once for rows with the same answer."""
    from localemp.utils.formatting import duration

    for name, title in _HOW.items():
        rows: dict[str, list[str]] = {}
        for row in estimate.rows:
            if row.pending and row.how.get(name):
                rows.setdefault(row.how[name], []).append(row.name)
        for how, names in rows.items():
            named = ", ".join(names) if len(names) <= _MOST_NAMES else count(len(names), "row")
            of = f" ({named})" if len(rows) > 1 else ""
            click.echo(for_terminal(f"{title}{of}: {how}"))
    start = "not known" if estimate.start_seconds is None else f"about {duration(estimate.start_seconds)}"
    if any(row.seconds is not None for row in estimate.rows):
        click.echo(f"not in the time: engine start ({start}), and looking up exemplars and inferences", nl=False)
        took = estimate.lookup_seconds
        click.echo("" if took is None else f" ({duration(took)} just now; inferences are kept)")
