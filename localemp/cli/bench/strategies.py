"""`localemp bench strategies`: the cost of each strategy, and its time by component."""

import asyncio
from pathlib import Path
from typing import Any

import click

from localemp.cli.bench.options import (
    default_out,
    dialogues_option,
    load_format_option,
    measured,
    model_to_measure,
    out_option,
    repeats_option,
    settings_of,
)
from localemp.cli.options import data_options, deterministic_option, local_model_options, prompt_options
from localemp.cli.registered import StrategyCommand, check_typed_heeded
from localemp.cli.types import FilePath

DEFAULT = "zero-shot,few-shot:1,few-shot:5,similar,two-stage,knowledge,similar+two-stage,similar+knowledge"


def _dollars(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Check that an option's amount is not negative."""
    try:
        amount = None if value is None else float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a price, give US dollars such as 2.49", ctx, option) from None
    if amount is not None and not 0 <= amount < float("inf"):
        raise click.BadParameter(f"{value} is not a price, it must be 0 or more", ctx, option)
    return amount


@click.command(cls=StrategyCommand, of_data=False)
@local_model_options
@deterministic_option
@click.option(
    "--strategies",
    metavar="A,B",
    default=DEFAULT,
    show_default=True,
    help="few-shot:1 and similar:3 set the number of exemplars; the default is --shots.",
)
@prompt_options
@click.option(
    "--knowledge",
    type=FilePath(exists=True, dir_okay=False),
    help="Precomputed commonsense inferences, whose time is then not measured.",
)
@data_options
@dialogues_option
@repeats_option
@click.option(
    "--price-per-hour", callback=_dollars, metavar="USD", help="US dollars for this machine with all its GPUs."
)
@click.option("--price-prompt", callback=_dollars, metavar="USD", help="US dollars for a million tokens of prompts.")
@click.option("--price-reply", callback=_dollars, metavar="USD", help="US dollars for a million tokens of replies.")
@click.option(
    "--reply-tokens",
    type=click.IntRange(min=2),
    help="Exact length of every text; by default the model decides, with dummy weights 64.",
)
@load_format_option
@out_option
def strategies(
    strategies: str,
    dialogues: int,
    repeats: int,
    price_per_hour: float | None,
    price_prompt: float | None,
    price_reply: float | None,
    reply_tokens: int | None,
    load_format: str,
    out: Path | None,
    split: str,
    **options: Any,
) -> None:
    """Measure the cost of each strategy, and its time by component.

    One engine answers all strategies. Lookups are computed again in every repeat, with an empty COMET cache.
    """  # fmt: skip
    from localemp.errors import OptionError

    if (price_prompt is None) != (price_reply is None):
        raise OptionError("prices of tokens come in pairs", "give --price-prompt and --price-reply")
    if price_per_hour is not None and price_prompt is not None:
        raise OptionError("a price per hour and prices of tokens exclude each other", "give one or the other")

    from localemp.bench.strategy_spec import parse_specs
    from localemp.cli.display import Display

    chosen = parse_specs(strategies)
    check_typed_heeded(click.get_current_context(), [each.strategy for each in chosen])
    tokens = 64 if reply_tokens is None and load_format == "dummy" else reply_tokens
    with Display() as display, model_to_measure(options, load_format, display) as base:
        from localemp.bench.dummy import dummy_notes
        from localemp.bench.offline import dialogues_for
        from localemp.bench.result import Recording
        from localemp.bench.strategies import Price, measure_strategies

        price = Price(price_per_hour, price_prompt, price_reply)
        asked = dialogues_for(base, split, dialogues)
        pipelines = [(each.name, base.vary(each.strategy, shots=each.shots)) for each in chosen]
        first = pipelines[0][1]
        common = settings_of(first, asked, split)
        settings = {name: value for name, value in common.items() if name not in first.strategy.describe()} | {
            "dialogues": len(asked),
            "repeats": repeats,
            "reply_tokens": tokens,
            "price_per_hour": price_per_hour,
            "price_prompt": price_prompt,
            "price_reply": price_reply,
            "strategies": {name: pipeline.strategy.describe() for name, pipeline in pipelines},
        }
        path = out or default_out("strategies")
        recording = Recording(path, "strategies", base.model_name, settings, dummy=load_format == "dummy")
        recording.result.notes += dummy_notes(base.config)
        with measured(recording), display.clock("looking up") as on_progress:
            asyncio.run(
                measure_strategies(
                    pipelines, asked, recording, repeats=repeats, tokens=tokens, price=price, on_progress=on_progress
                )
            )  # fmt: skip
