"""Prints what was paid."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from localemp.runs.bill import Bill


def echo_bill(now: "Bill | None", in_all: "Bill", of: str) -> None:
    """Print what a session has cost, and all sessions together where that is something else.

    Args:
        now: This session's bill; None if it asked nothing.
        in_all: That of all sessions.
        of: What they are sessions of, such as "the run".
    """
    lines = [] if now is None else now.lines()
    if in_all.lines() != lines:
        lines += in_all.lines(f"{of}, all sessions")
    for line in dict.fromkeys(lines):
        click.echo(line)
