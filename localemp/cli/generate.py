"""`localemp generate`: answer a data set, and store the replies in a run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.bill import echo_bill
from localemp.cli.interrupts import resumable
from localemp.cli.options import (
    EXCLUDES,
    NEEDS,
    budget_option,
    cluster_options,
    config_of,
    data_options,
    model_options,
    strategy_options,
    subset_options,
)
from localemp.cli.registered import StrategyCommand
from localemp.cli.types import PATH
from localemp.utils.formatting import count, known, of_which_thinking

if TYPE_CHECKING:
    from localemp.commands.generate import GenerateResult
    from localemp.estimates.estimate import Estimate
    from localemp.pipeline.config import RunConfig
    from localemp.pipeline.generate import Tally


@click.command(cls=StrategyCommand, needs=NEEDS, excludes=EXCLUDES)
@model_options
@strategy_options
@data_options
@cluster_options
@budget_option
@subset_options
@click.option("--out", type=PATH, help="The run's folder; by default named by its settings.")
@click.option("--retry-errors", is_flag=True, help="Retry dialogues that failed before.")
@click.option("--estimate", is_flag=True, help="Show what it will take, and answer nothing; no engine is started.")
@click.option("--json", "as_json", is_flag=True, help="With --estimate: print JSON.")
@click.option("--show", type=click.IntRange(min=0), default=3, show_default=True, help="Replies to show at the end.")
def generate(
    limit: int | None,
    sample: int | None,
    out: Path | None,
    retry_errors: bool,
    budget: float | None,
    estimate: bool,
    as_json: bool,
    show: int,
    split: str,
    address: str | None,
    actors: int | None,
    **options: Any,
) -> None:
    """Answer every dialogue of a data set.

    Replies are saved as they finish. Ctrl-C stops; rerun the same command to resume.
    """
    from localemp.cli.display import Display
    from localemp.cli.replies import print_replies
    from localemp.commands.generate import generate as answer
    from localemp.runs.order import numbers_of
    from localemp.runs.run import model_name

    config = config_of(options)
    if estimate:
        _estimate(config, split, limit, sample, out, retry_errors, budget, as_json)
        return
    with Display() as display, resumable(display.say):
        result = answer(
            config,
            split=split,
            limit=limit,
            sample=sample,
            out=out,
            retry_errors=retry_errors,
            budget=budget,
            ray=address,
            actors=actors,
            on_progress=display.on_progress,
        )
    model = model_name({**result.settings, "model": config.model})
    records = result.records(show)
    print_replies(records, f"{model}, {result.settings['strategy']}", numbers_of(records))
    _summary(result)
    if result.failed:
        sys.exit(1)


def _estimate(
    config: "RunConfig",
    split: str,
    limit: int | None,
    sample: int | None,
    out: Path | None,
    retry_errors: bool,
    budget: float | None,
    as_json: bool,
) -> None:
    """Show what it will take."""
    from localemp.cli.display import Display
    from localemp.cli.estimates import show_estimate
    from localemp.commands.estimate import estimate

    with Display() as display:
        found = estimate(
            config,
            split=split,
            limit=limit,
            sample=sample,
            out=out,
            retry_errors=retry_errors,
            budget=budget,
            on_progress=display.on_progress,
        )
    show_estimate(found, as_json)


def _summary(result: "GenerateResult") -> None:
    click.echo(f"{count(len(result.answered), 'reply', 'replies')}, {result.failed} failed")
    truncation, tally = result.truncation(), result.tally
    if truncation.line:
        click.echo(truncation.line)
    if tally is not None and tally.done:
        seconds = tally.seconds
        click.echo(
            f"this time: {count(tally.done, 'dialogue')} in {seconds:.1f} s, {tally.done / seconds:.2f} dialogues/s, "
            f"{known(tally.tokens_per_s)} tokens/s"
        )
        click.echo(f"tokens: {_tokens(tally)}")
        if tally.dropped:
            click.echo(f"exemplars were dropped from {tally.dropped} prompts that would not have fitted the context")
        if result.estimate is not None and (told := _against(result.estimate, tally)):
            click.echo(told)
    echo_bill(None if tally is None else tally.bill, result.bill, "the run")
    click.echo(f"run: {result.folder}")
    if truncation.hint:
        click.echo(f"hint: {truncation.hint}", err=True)
    if result.failed:
        click.echo(f"hint: `localemp runs show {result.folder} --errors` says why; --retry-errors asks again", err=True)


def _against(estimate: "Estimate", tally: "Tally") -> str:
    """What a run took as a multiple of its estimate, in a line."""
    from localemp.estimates.truth import QUANTITIES, Truth, compare

    told = [
        f"{QUANTITIES[one.name]} x {one.ratio:.2f}"
        for one in compare(estimate.rows[0], Truth.of([tally]))
        if one.ratio is not None and one.name != "calls"
    ]
    return f"compared with the estimate: {', '.join(told)}" if told else ""


def _tokens(tally: "Tally") -> str:
    if tally.uncounted == tally.calls:
        return "unknown: the server does not count them"
    told = f"{tally.prompt_tokens} of prompts, {tally.completion_tokens} of replies"
    told += of_which_thinking(tally.thinking_tokens)
    return f"{told}, without {tally.uncounted} of {tally.calls} calls that tell none" if tally.uncounted else told
