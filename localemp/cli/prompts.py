"""`localemp prompts`: shows prompts without calling the model."""

import asyncio
from typing import Any

import click

from localemp.cli.command import Group
from localemp.cli.options import config_of, data_options, model_options, strategy_options
from localemp.cli.registered import StrategyCommand
from localemp.utils.text import json_text


@click.group(cls=Group)
def prompts() -> None:
    """Show the exact prompts, without calling the model."""


@prompts.command(cls=StrategyCommand)
@model_options
@strategy_options
@data_options
@click.option("--index", default=0, show_default=True, help="Row of the dialogue in the data, from 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the messages as JSON.")
def show(index: int, as_json: bool, split: str, **options: Any) -> None:
    """Print the messages of every stage for one dialogue, with token counts. The model is not called.

    Texts in parentheses stand for earlier answers, and one label for each answer that is one of a list.
    """
    from localemp.cli.display import Display
    from localemp.cli.replies import print_prompt
    from localemp.data.sources import load_dialogues
    from localemp.errors import OptionError
    from localemp.pipeline.pipeline import Pipeline
    from localemp.pipeline.preview import preview

    config = config_of(options)
    dialogues = load_dialogues(config.data, split, config.instances)
    if not 0 <= index < len(dialogues):
        raise OptionError(
            f"--index {index}: the data has {len(dialogues)} dialogues", f"give 0 to {len(dialogues) - 1}"
        )
    with Display() as display:
        pipeline = Pipeline(config, display.on_progress)
        stages = asyncio.run(preview(pipeline, dialogues[index]))
    for stage in stages:
        if as_json:
            click.echo(json_text(stage.as_dict()))
        else:
            print_prompt(stage)
