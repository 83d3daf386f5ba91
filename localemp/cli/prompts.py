"""`localemp prompts`: shows prompts without calling the model, and prints and checks files of prompts."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from localemp.cli.command import Group
from localemp.cli.one_dialogue import find_place, id_option, index_option
from localemp.cli.options import config_of, data_options, dialogues_of, model_options, strategy_options
from localemp.cli.registered import StrategyCommand
from localemp.cli.tables import show_table
from localemp.cli.types import NAME, PATH
from localemp.utils.text import for_terminal, json_text, one_line


@click.group(cls=Group)
def prompts() -> None:
    """Show the exact prompts, without calling the model; print and check files of prompts."""


@prompts.command(cls=StrategyCommand)
@model_options
@strategy_options
@data_options
@index_option
@id_option
@click.option("--json", "as_json", is_flag=True, help="Print the messages as JSON.")
def show(index: int | None, name: str | None, as_json: bool, split: str, **options: Any) -> None:
    """Print the messages of every stage for one dialogue, the first if none is named, with token counts.

    The model is not called.

    Texts in parentheses stand for earlier answers, and one label for each answer that is one of a list.
    """
    from localemp.cli.display import Display
    from localemp.cli.replies import print_prompt
    from localemp.pipeline.pipeline import Pipeline
    from localemp.pipeline.preview import preview

    config = config_of(options)
    dialogues = dialogues_of(config.data, config.columns, split, config.instances)
    ids = [dialogue.id for dialogue in dialogues]
    place = find_place(ids, range(len(ids)), index, name, "the data") or 0
    with Display() as display:
        pipeline = Pipeline(config, display.on_progress)
        stages = asyncio.run(preview(pipeline, dialogues[place]))
    for stage in stages:
        if as_json:
            click.echo(json_text(stage.as_dict()))
        else:
            print_prompt(stage)


@prompts.command(name="list")
def list_() -> None:
    """List the files of prompts that ship with localemp."""
    from rich.table import Table

    from localemp.commands.prompts import list_prompts

    table = Table("Name", "Kind", "Given with")
    for each in list_prompts():
        table.add_row(each.name, each.kind, each.option)
    show_table(table)


@prompts.command()
@click.argument("name", type=NAME)
def export(name: str) -> None:
    """Print a file of prompts that ships with localemp, to change it: `prompts export paper > mine.toml`.

    To change a few keys, write only these: a file that begins with `extends = "paper"` has all others of paper.
    """
    from localemp.commands.prompts import export_prompts

    sys.stdout.buffer.write(export_prompts(name))


@prompts.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def check(files: tuple[Path, ...]) -> None:
    """Check files of prompts of your own, and show what they change."""
    from localemp.commands.prompts import check_prompts
    from localemp.errors import LocalempError

    wrong: list[LocalempError] = []
    for file in files:
        try:
            found = check_prompts(file)
        except LocalempError as error:
            wrong += [error, *error.others]
            continue
        click.echo(for_terminal(f"{file}: valid {found.kind}, for {found.option}; SHA-256 {found.sha256[:12]}"))
        for key, (before, after) in found.changes.items():
            click.echo(for_terminal(f"  {key}{' is the same' if before == after else ''}"))
            if before != after:
                click.echo(for_terminal(f"    {found.extends}: {one_line(repr(before), 100)}"))
                click.echo(for_terminal(f"    here: {one_line(repr(after), 100)}"))
    if wrong:
        first, *others = wrong
        first.others = tuple(others)
        raise first
