"""What an experiment says at the end: a table of its rows, what was written, and what is to be done again."""

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from localemp.cli.bill import echo_bill
from localemp.cli.estimates import print_comparison
from localemp.cli.tables import echo_written, show_table
from localemp.runs.bill import Bill
from localemp.utils.formatting import count, dollars, of_which_thinking, percent
from localemp.utils.text import for_terminal, one_line

if TYPE_CHECKING:
    from localemp.commands.experiment import ExperimentResult
    from localemp.experiments.rows import RowResult
    from localemp.pipeline.generate import Tally
    from localemp.runs.truncation import Truncation

_LONGEST = 1000  # characters of an error
_NAMED = 5  # rows of one error


def print_summary(result: "ExperimentResult") -> None:
    """Print the rows and the files, and on standard error what failed, with the command that retries it."""
    _print_rows(result.rows)
    runs = {row.folder: row for row in result.rows}.values()  # rows of the same settings have one
    _say_how_fast([row.tally for row in runs if row.tally is not None and row.tally.done])
    if shared := sum(row.shared for row in runs):
        click.echo(f"shared: {count(shared, 'call')} had the very same request as another row's, and were asked once")
    now, in_all = Bill(), Bill()
    for row in runs:
        in_all.add(row.bill)
        if row.tally is not None:
            now.add(row.tally.bill)
    for hint in dict.fromkeys(row.truncation.hint for row in runs if row.truncation.hint):
        click.echo(f"truncated replies: {hint}")
    echo_bill(now, in_all, "the rows")
    print_comparison(result.compared)
    incomplete = tuple(f"row {row.row.name} is " for row in result.rows if not row.complete)
    for note in result.notes:
        if not note.startswith(incomplete):  # those are told below, with the reason and what to do
            click.echo(f"note: {one_line(note, _LONGEST)}")
    echo_written(result.written)
    click.echo(f"experiment: {result.folder}")
    for line in failures((row.row.name, row.error, row.hint) for row in result.rows if row.error and not row.complete):
        click.echo(line, err=True)
    for row in result.rows:
        _say_missing(row)
    for failure in result.failures:
        click.echo(f"failed: {one_line(failure, _LONGEST)}", err=True)
    for retry in dict.fromkeys(row.retry for row in result.rows if row.retry):
        click.echo(f"hint: to retry, run: {for_terminal(retry)}", err=True)


def _print_rows(rows: "tuple[RowResult, ...]") -> None:
    from rich.table import Column, Table

    from localemp.cli.replies import plain

    costs = any(row.bill.paid for row in rows)
    shared = any(row.shared for row in rows)
    tiers = any(any(row.bill.tiers) for row in rows)
    truncated = any(row.truncation.line for row in rows)
    more = [
        *(["Trun-\ncated"] if truncated else []),
        *(["Shared\ncalls"] if shared else []),
        *(["Tier"] if tiers else []),
        *(["US\ndollars"] if costs else []),
    ]
    numbers = ("Replies", "Failed", "Replies/s", "Prompt\ntokens", "Reply\ntokens", *more)
    name = Column("Row", overflow="fold", min_width=12)
    table = Table(name, *(Column(each, justify="right", no_wrap=True) for each in numbers))
    for row in rows:
        cells = [f"{row.answered} of {row.dialogues}", str(row.failed or ""), *_of_this_time(row.tally)]
        cells += [_truncated(row.truncation)] if truncated else []
        cells += [str(row.shared or "")] if shared else []
        cells += [", ".join(sorted(one_line(tier or "standard", 40) for tier in row.bill.tiers))] if tiers else []
        table.add_row(plain(row.row.name), *cells, *([_cost(row.bill)] if costs else []))
    show_table(table)
    if any(row.tally is None and row.complete for row in rows):
        click.echo("rows without a speed had all of their replies before")


def _say_how_fast(tallies: "list[Tally]") -> None:
    """Print the time of all rows, which were answered together."""
    if not tallies:
        return
    done = sum(tally.done for tally in tallies)
    began = min(tally.started for tally in tallies)
    seconds = max(max(tally.started + tally.seconds for tally in tallies) - began, 1e-9)
    click.echo(f"this time: {count(done, 'dialogue')} in {seconds:.1f} s, {done / seconds:.2f} dialogues/s")
    thinking = [tally.thinking_tokens for tally in tallies]
    total = None if None in thinking else sum(each or 0 for each in thinking)
    if total != 0:
        click.echo(f"reply tokens: {sum(tally.completion_tokens for tally in tallies):,}{of_which_thinking(total)}")


def _of_this_time(tally: "Tally | None") -> list[str]:
    """Replies a second, and tokens, of what was asked now."""
    if tally is None or not tally.calls:
        return ["", "", ""]
    mark = "+" if 0 < tally.uncounted < tally.calls else ""
    counted = tally.uncounted < tally.calls
    tokens = [
        f"{number:,}{mark}" if counted else "unknown" for number in (tally.prompt_tokens, tally.completion_tokens)
    ]
    return [f"{tally.done / max(tally.seconds, 1e-9):.2f}", *tokens]


def _truncated(truncation: "Truncation") -> str:
    return percent(truncation.truncated, truncation.replies) if truncation.truncated else ""


def _cost(bill: Bill) -> str:
    """Return what a run has cost over all sessions, failed replies included."""
    return f"{dollars(bill.paid)}{'+' if bill.unpriced else ''}" if bill.paid else ""


def failures(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return lines that name failed rows; those with the same error, such as all rows of a model, together.

    Args:
        rows: Name, error and hint of each.
    """
    same: dict[tuple[str, str], list[str]] = {}
    for name, error, hint in rows:
        same.setdefault((error, hint), []).append(name)
    lines = []
    for (error, hint), names in same.items():
        more = f" and {count(len(names) - _NAMED, 'more row')}" if len(names) > _NAMED else ""
        lines.append(f"failed: {for_terminal('; '.join(names[:_NAMED]))}{more}: {one_line(error, _LONGEST)}")
        lines += [f"  hint: {one_line(hint, _LONGEST)}"] if hint else []
    return lines


def _say_missing(row: "RowResult") -> None:
    """Name a row that lacks replies although nothing stopped it."""
    if row.complete or row.error:
        return
    missing = f"{count(row.failed, 'dialogue')} failed" if row.failed else "not all dialogues have a reply"
    click.echo(f"failed: {for_terminal(row.row.name)}: {missing}", err=True)
    if row.failed and row.folder is not None:
        why = shlex.join(["localemp", "runs", "show", str(row.folder), "--errors"])
        click.echo(f"  why: {for_terminal(why)}", err=True)
