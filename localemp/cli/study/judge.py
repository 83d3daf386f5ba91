"""`localemp study judge`: a model rates a study."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from localemp.cli.bill import echo_bill
from localemp.cli.command import Command
from localemp.cli.interrupts import resumable
from localemp.cli.options import budget_option, config_of, model_options
from localemp.cli.types import NAME, PATH
from localemp.errors import LocalempError
from localemp.utils.formatting import count, known, of_which_thinking, share
from localemp.utils.text import for_terminal, one_line

if TYPE_CHECKING:
    from localemp.commands.study import JudgeResult
    from localemp.pipeline.generate import Tally
    from localemp.studies.judging.prompts import Answers
    from localemp.studies.judging.verdicts import JudgeStats


@click.command(cls=Command)
@click.argument("study", type=PATH)
@model_options
@click.option("--judge", "judges", type=NAME, multiple=True, metavar="MODEL",
              help="A judge, in place of --model; may be repeated: all options hold for every judge.")  # fmt: skip
@click.option("--votes", type=click.IntRange(min=1), default=1, show_default=True,
              help="How often to ask each question; more than once needs a --temperature above 0.")  # fmt: skip
@click.option("--name", help="The judge's name in tables and of its folder; by default the model's.")
@click.option("--prompts", type=NAME, metavar="NAME|FILE",
              help="What is asked: `mt-bench`, `g-eval`, `epitome`, or a file like prompts/judge.toml.")  # fmt: skip
@click.option("--answers", type=click.Choice(["probabilities", "written"]),
              help="Whether the probability of each answer counts, or what the model writes; by default as the judge "
              "began, and for a new one probabilities where the engine gives them.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Judge only the first N items.")
@budget_option
def judge(
    study: Path,
    judges: tuple[str, ...],
    votes: int,
    name: str | None,
    prompts: str | None,
    answers: "Answers | None",
    limit: int | None,
    budget: float | None,
    **options: Any,
) -> None:
    """Let a model rate STUDY: aspect by aspect, each pair in both orders.

    Answers are saved as they arrive. Ctrl-C stops; rerun the same command to resume. With several --judge, one after
    another is asked, and one that fails does not stop the others.
    """
    from localemp.cli.display import Display
    from localemp.commands.study import judge as judge_study
    from localemp.commands.study import judge_all

    if judges and click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--model and --judge: name every judge with --judge, or one with --model")
    if name and len(judges) > 1:
        raise click.UsageError("--name is for one judge; several are called by their models' names")
    if len(judges) == 1:
        options["model"] = judges[0]
    config = config_of(options)
    outcomes: dict[str, JudgeResult | LocalempError] = {}
    with Display() as display, resumable(display.say):
        how: dict[str, Any] = {"votes": votes, "prompts": prompts, "answers": answers, "limit": limit}
        how |= {"budget": budget, "on_progress": display.on_progress}
        if len(judges) > 1:
            outcomes = judge_all(study, judges, config, **how)
        else:
            outcomes[""] = judge_study(study, config, name=name, **how)
    whole = [say_outcome(judge, outcome) for judge, outcome in outcomes.items()]
    if not all(whole):
        sys.exit(1)
    click.echo(f"hint: `localemp study report {study}`")


def say_outcome(judge: str, outcome: "JudgeResult | LocalempError") -> bool:
    """Print what is known of a judge, one of several under its name; return whether it has answered everything."""
    from localemp.runs.judge_answers import VOTES
    from localemp.studies.judging.verdicts import begun_with

    if isinstance(outcome, LocalempError):
        click.echo(f"error: {for_terminal(judge)}: {for_terminal(outcome.message)}", err=True)
        for note in getattr(outcome, "__notes__", []):
            click.echo(f"stopped: {for_terminal(note)}", err=True)
        if outcome.hint:
            click.echo(f"hint: {for_terminal(outcome.hint)}", err=True)
        return False
    if judge:
        click.echo(f"\n{judge}:")
    if outcome.tally is not None:
        _say_how_fast(outcome.tally)
    _say(outcome.stats, by_probability=begun_with(outcome.folder) == "probabilities")
    echo_bill(None if outcome.tally is None else outcome.tally.bill, outcome.bill, "the judge")
    for note in outcome.stats.notes:
        click.echo(f"note: {one_line(note)}")
    click.echo(f"judge: {outcome.folder}")
    if outcome.failed:
        click.echo(f"hint: {outcome.folder / VOTES} says why; rerun the same command to retry what failed", err=True)
    return not outcome.failed


def _say_how_fast(tally: "Tally") -> None:
    seconds = tally.seconds
    tokens = None if tally.uncounted else (tally.prompt_tokens + tally.completion_tokens) / seconds
    click.echo(
        f"this time: {count(tally.done, 'answer')} in {seconds:.1f} s, {tally.done / seconds:.2f} answers/s, "
        f"{known(tokens)} tokens/s of prompts and answers"
    )
    if tally.cached_tokens is not None and tally.prompt_tokens:
        hits = tally.cached_tokens / tally.prompt_tokens
        click.echo(f"prefix cache: {hits:.1%} of {tally.prompt_tokens} tokens of prompts were in it")


def _say(stats: "JudgeStats", *, by_probability: bool) -> None:
    """Print the judge's statistics over all sessions."""
    from localemp.studies.judging.verdicts import ENOUGH_MASS

    answers, votes = count(stats.answers, "answer"), count(stats.votes, "vote")
    failed = f", {stats.failed} failed" if stats.failed else ""
    missing = f", {stats.missing} missing for want of an answer that can be read" if stats.missing else ""
    click.echo(
        f"{answers}, {stats.unparsable} unparsable ({stats.unparsable_share or 0:.1%}){failed}; {votes}{missing}"
    )
    if by_probability and stats.answers:
        known_of = share(stats.measured, stats.answers, "answer")
        sure = "" if stats.confidence is None else f"; mean confidence of a vote {stats.confidence:.1%}"
        rest = "" if stats.measured == stats.answers else "; of the others, what the model wrote counts"
        click.echo(f"probabilities: known of {known_of}{sure}{rest}")
    if stats.mass is not None:
        weak = "; it would mostly write something else: trust this judge little" if stats.mass < ENOUGH_MASS else ""
        click.echo(f"mass: the answers that were asked for have a probability of {stats.mass:.1%} together{weak}")
    if stats.flip_rate is not None:
        counts = "; the mean of both orders counts" if stats.measured else " and count as ties"
        click.echo(
            f"flips: {stats.flips} of {stats.pairs} ({stats.flip_rate:.1%}) change with the order of the replies"
            f"{counts}; {_trust(stats.flip_rate)}"
        )
    if stats.first_probability is not None:
        click.echo(f"position: {stats.first_probability:.1%} of the probability is for the reply shown first")
    if stats.first_share is not None:
        click.echo(f"position: {stats.first_share:.1%} of choices are for the reply shown first; 50% means no bias")
    thought = of_which_thinking(stats.thinking_tokens)
    click.echo(f"tokens: {known(stats.prompt_tokens)} of prompts, {known(stats.completion_tokens)} of answers{thought}")


def _trust(flip_rate: float) -> str:
    """Compare a flip rate with that of a judge that guesses."""
    guessing = "guessing flips half of the time"
    if flip_rate >= 0.5:
        return f"{guessing}: do not trust this judge"
    return f"{guessing}: trust this judge little" if flip_rate >= 0.25 else guessing
