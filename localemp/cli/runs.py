"""`localemp runs`: lists runs (`run_list.py`), shows their replies and stages, and verifies them (`verify.py`)."""

from pathlib import Path
from typing import Any

import click

from localemp.cli.command import Group
from localemp.cli.completion import complete_runs
from localemp.cli.one_dialogue import find_place, id_option, index_option
from localemp.cli.run_list import list_
from localemp.cli.types import PATH
from localemp.cli.verify import verify
from localemp.utils.formatting import count, known, of_which_thinking
from localemp.utils.text import for_terminal, json_text


@click.group(cls=Group)
def runs() -> None:
    """List runs, show and export their replies, and verify that they can be repeated."""


runs.add_command(list_)
runs.add_command(verify)


@runs.command(excludes={"limit": ("index", "name")})
@click.argument("run", type=PATH, shell_complete=complete_runs)
@index_option
@id_option
@click.option("--errors", is_flag=True, help="Show only failures.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Most replies to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as stored, in JSON.")
def show(run: Path, index: int | None, name: str | None, errors: bool, limit: int, as_json: bool) -> None:
    """Show a run's settings and replies, or one reply with all its stages.

    Replies are in the order of the data, and their numbers are places in it: in every run of the same data, and in
    `prompts show`, --index N is the same dialogue.
    """
    from localemp.cli.replies import print_record, print_replies
    from localemp.runs.order import NO_POSITIONS, knows_positions, numbers_of
    from localemp.runs.outline import outline, whole
    from localemp.runs.run import read_bill, read_manifest
    from localemp.runs.verified import verified_line

    manifest = read_manifest(run)
    answered = outline(run)
    if not knows_positions(answered):
        click.echo(f"note: {NO_POSITIONS}", err=True)
    numbered = [
        (number, record)
        for number, record in zip(numbers_of(answered), answered, strict=True)
        if "error" in record or not errors
    ]
    numbers, told = [number for number, _ in numbered], [record for _, record in numbered]
    place = find_place([record["id"] for record in told], numbers, index, name, str(run))
    if place is not None:
        record = whole(run, [told[place]])[0]
        if as_json:
            click.echo(json_text(record))
        else:
            print_record(record)
    elif as_json:
        for record in whole(run, told[:limit]):
            click.echo(json_text(record))
    else:
        replies = [(number, record) for number, record in numbered if "error" not in record][:limit]
        failures = [record for record in told if "error" in record][:limit]
        _print_manifest(manifest, answered)
        if line := verified_line(run):
            click.echo(for_terminal(line))
        if any("bill" in session for session in manifest["sessions"]):
            for line in read_bill(run).lines():
                click.echo(line)
        print_replies(whole(run, [record for _, record in replies]), str(run), [number for number, _ in replies])
        for record in whole(run, failures):
            print_record(record)


@runs.command()
@click.argument("given", nargs=-1, required=True, metavar="RUN...", type=PATH, shell_complete=complete_runs)
@click.option("--csv", type=PATH, metavar="FILE", help="Write comma-separated values, for a spreadsheet.")
@click.option("--parquet", type=PATH, metavar="FILE", help="Write Parquet.")
@click.option("--jsonl", type=PATH, metavar="FILE", help="Write JSON lines.")
@click.option("--common", is_flag=True, help="Only the dialogues that every run has a reply to.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def export(
    given: tuple[Path, ...],
    csv: Path | None,
    parquet: Path | None,
    jsonl: Path | None,
    common: bool,
    overwrite: bool,
) -> None:
    """Write the replies of runs as a table: a row for each dialogue, in the order of the data.

    Several runs are joined by the ids of dialogues, and each has its own columns; as NAME=RUN, they call it NAME.
    """
    from localemp.cli.display import Display
    from localemp.cli.tables import echo_written
    from localemp.commands.export import export as write

    with Display() as display:
        result = write(
            given,
            csv=csv,
            parquet=parquet,
            jsonl=jsonl,
            common=common,
            overwrite=overwrite,
            on_progress=display.on_progress,
        )
    for note in result.notes:
        click.echo(for_terminal(f"note: {note}"), err=True)
    click.echo(f"{count(result.rows, 'dialogue')}, {count(len(result.columns), 'column')}")
    echo_written(result.written)


def _print_manifest(manifest: dict[str, Any], records: list[dict[str, Any]]) -> None:
    import json

    from localemp.runs.run import thinking_tokens
    from localemp.runs.truncation import count_truncated

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
    if note := count_truncated((record["ending"] for record in records), manifest["settings"]).note:
        click.echo(note)
    for session in manifest["sessions"]:
        click.echo(for_terminal(f"{session['started']}  {session['command']}"))
