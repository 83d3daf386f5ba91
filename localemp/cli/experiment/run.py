"""`localemp experiment PLAN`: answer all rows of a plan, and score, compare and report them."""

import copy
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from localemp.cli.completion import complete_models
from localemp.cli.defaults import DefaultableOption
from localemp.cli.interrupts import resumable
from localemp.cli.options import (
    EXCLUDES,
    NEEDS,
    budget_option,
    cluster_options,
    parse_engine_args,
    parse_sampling,
    row_options,
    subset_options,
)
from localemp.cli.registered import StrategyCommand, with_registered
from localemp.cli.types import NAME, PATH


class RunCommand(StrategyCommand):
    """The command that a group runs for a plan; in usage and errors it has the group's own name."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Make a context in the place of the group's."""
        assert parent is not None
        return super().make_context(parent.info_name, args, parent.parent, **extra)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options, those of metrics too; their defaults are not shown, since a plan has its own."""
        from localemp.metrics.registry import metric_options

        params = with_registered(ctx, super().get_params(ctx), metric_options(), "no_bertscore")
        return [_without_default(param) for param in params]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the bundled plans, and the group's commands."""
        from localemp.cli.experiment import COMMANDS
        from localemp.experiments.plan import PLANS, read_plan

        with formatter.section("Bundled plans"):
            formatter.write_dl([(name, read_plan(name).about) for name in PLANS])
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.command(cls=RunCommand, needs=NEEDS, excludes=EXCLUDES)
@click.argument("plan", type=NAME)
@click.option("--model", "-m", "models", type=NAME, multiple=True, shell_complete=complete_models,
              help="A model for all rows, instead of the plan's; may be repeated.")  # fmt: skip
@row_options
@cluster_options
@budget_option
@subset_options
@click.option("--out", type=PATH, help="The experiment's folder; by default experiments/PLAN-MODEL.")
@click.option("--retry-errors", is_flag=True, help="Retry dialogues that failed before.")
@click.option("--no-bertscore", is_flag=True, help="Score without BERTScore.")
@click.option("--ppl", is_flag=True, help="Also score the perplexity of people's replies, with the rows' models.")
@click.option("--against", type=NAME, metavar="ROW", help="The base row: how far all others differ from it.")
@click.option("--study", is_flag=True, help="Create a study of every row against the base row.")
@click.option("--judge", type=NAME, multiple=True, metavar="MODEL",
              help="Also have this model judge the studies; may be repeated.")  # fmt: skip
@click.option("--estimate", is_flag=True, help="Show what it will take, and answer nothing; no engine is started.")
@click.option("--json", "as_json", is_flag=True, help="With --estimate: print JSON.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    plan: str,
    models: tuple[str, ...],
    limit: int | None,
    sample: int | None,
    out: Path | None,
    retry_errors: bool,
    budget: float | None,
    estimate: bool,
    as_json: bool,
    address: str | None,
    actors: int | None,
    **options: Any,
) -> None:
    """Answer all rows of PLAN on one engine for each model, then score, compare and report them.

    PLAN is a bundled plan (`localemp experiment list`) or a TOML file (docs/experiments.md). Options apply to all rows
    that do not set them themselves. Replies are saved as they finish. Ctrl-C stops; rerun the same command to resume.
    """
    from localemp.cli.experiment.live import ExperimentDisplay
    from localemp.cli.experiment.summary import print_summary
    from localemp.commands.experiment import experiment

    chosen = typed(ctx, options)
    after = _steps(chosen)
    split = chosen.pop("split", None)
    arguments: dict[str, Any] = {"models": models, "split": split, "limit": limit, "sample": sample, "out": out}
    arguments |= {"retry_errors": retry_errors, "budget": budget, "after": after, **chosen}
    if estimate:
        _estimate(plan, as_json, arguments)
        return
    with ExperimentDisplay() as display, resumable(display.say):
        result = experiment(plan, ray=address, actors=actors, on_progress=display.on_progress, **arguments)
    print_summary(result)
    if not result.complete:
        sys.exit(1)


def _estimate(plan: str, as_json: bool, arguments: dict[str, Any]) -> None:
    """Show what it will take."""
    from localemp.cli.display import Display
    from localemp.cli.estimates import show_estimate
    from localemp.commands.estimate import estimate_experiment

    with Display() as display:
        found = estimate_experiment(plan, on_progress=display.on_progress, **arguments)
    show_estimate(found, as_json)


def typed(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were typed, as settings: what a plan says would not hold against defaults."""
    chosen = {
        name: value for name, value in options.items() if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if "engine_args" in chosen:
        chosen["engine_args"] = parse_engine_args(chosen["engine_args"])
    if "sampling" in chosen:
        chosen["sampling"] = parse_sampling(chosen["sampling"])
    return chosen


def _steps(chosen: dict[str, Any]) -> dict[str, Any]:
    """Take what was typed about the steps afterwards out of the settings, in the form of a plan's `[after]`."""
    from localemp.metrics.registry import BERTSCORE_MODEL, metric_options

    after: dict[str, Any] = {}
    names = ("no_bertscore", "ppl", *(option.name for option in metric_options()))
    if score := {name: chosen.pop(name) for name in names if name in chosen}:
        # A model that is named is wanted, also where the plan has no BERTScore.
        wanted = {"no_bertscore": False} if BERTSCORE_MODEL.name in score else {}
        after["score"] = wanted | score
    if (base := chosen.pop("against", None)) is not None:
        after["compare"] = base
    judges = list(chosen.pop("judge", ()))
    if chosen.pop("study", False) or judges:
        after["study"] = {"judge": judges} if judges else True
    return after


def _without_default(param: click.Parameter) -> click.Parameter:
    if not isinstance(param, click.Option):
        return param
    shown: click.Option = copy.copy(param)
    shown.show_default = False
    if isinstance(shown, DefaultableOption):
        shown.heeds_user = False
    return shown
