"""`localemp runs`: lists runs (`run_list.py`), shows their replies and stages, and verifies them (`verify.py`)."""

from pathlib import Path
from typing import Any

import click

from localemp.cli.command import Group
from localemp.cli.run_list import list_
from localemp.cli.types import PATH
from localemp.cli.verify import verify
from localemp.utils.formatting import known, of_which_thinking
from localemp.utils.text import for_terminal, json_text


@click.group(cls=Group)
def runs() -> None:
    """List runs, show their replies and stages, and verify that they can be repeated."""


runs.add_command(list_)
runs.add_command(verify)


@runs.command()
@click.argument("run", type=PATH)
@click.option("--index", type=int, help="Show the reply in this row with its stages, from 0.")
@click.option("--errors", is_flag=True, help="Show only failures.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Most replies to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as stored, in JSON.")
def show(run: Path, index: int | None, errors: bool, limit: int, as_json: bool) -> None:
    """Show a run's settings and replies, or one reply with all its stages."""
    from localemp.cli.replies import print_record, print_replies
    from localemp.errors import OptionError
    from localemp.runs.run import read_bill, read_manifest, read_records
    from localemp.runs.verified import verified_line

    manifest = read_manifest(run)
    answered = read_records(run)
    records = [record for record in answered if "error" in record or not errors]
    if index is not None:
        if not 0 <= index < len(records):
            raise OptionError(f"--index {index}: {run} has {len(records)} lines", f"give 0 to {len(records) - 1}")
        records = [records[index]]
    if as_json:
        for record in records if index is not None else records[:limit]:
            click.echo(json_text(record))
    elif index is not None:
        print_record(records[0])
    else:
        _print_manifest(manifest, answered)
        if line := verified_line(run):
            click.echo(for_terminal(line))
        if any("bill" in session for session in manifest["sessions"]):
            for line in read_bill(run).lines():
                click.echo(line)
        print_replies([record for record in records if "reply" in record][:limit], str(run))
        for record in [record for record in records if "error" in record][:limit]:
            print_record(record)


def _print_manifest(manifest: dict[str, Any], records: list[dict[str, Any]]) -> None:
    import json

    from localemp.runs.run import thinking_tokens

    for name, value in manifest["settings"].items():
        if value not in (None, [], {}):
            click.echo(for_terminal(f"{name}: {value if isinstance(value, str) else json.dumps(value)}"))
    failed = sum("error" in record for record in records)
    stages = [stage for record in records for stage in record.get("stages", ())]
    told = [tokens for stage in stages if (tokens := stage["completion_tokens"]) is not None]
    tokens = known(sum(told) if told or not stages else None)
    of = f" (of {len(told)} calls; the others have no counts)" if 0 < len(told) < len(stages) else ""
    thinking = [thinking_tokens(stage) for stage in stages]
    thought = of_which_thinking(None if None in thinking else sum(each or 0 for each in thinking))
    click.echo(
        f"{len(records) - failed} replies, {failed} failed, {len(stages)} calls, {tokens} reply tokens{of}{thought}"
    )
    for session in manifest["sessions"]:
        click.echo(for_terminal(f"{session['started']}  {session['command']}"))
