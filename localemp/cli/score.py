"""`localemp score`: compute automatic metrics of runs or other systems' replies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from localemp.cli.completion import complete_runs
from localemp.cli.interrupts import resumable
from localemp.cli.options import hosted_options, verify_option
from localemp.cli.registered import RegisteredOptions
from localemp.cli.tables import print_table, show_table
from localemp.cli.types import NAME, PATH

if TYPE_CHECKING:
    from localemp.commands.score import ScoreResult
    from localemp.metrics.scoring import Scored
    from localemp.pipeline.config import ServiceTier
    from localemp.utils.option import Option

_FILE = PATH
_NOT_COMPARABLE = "*"


def _options() -> "tuple[Option, ...]":
    from localemp.metrics.registry import metric_options

    return metric_options()


@click.command(
    cls=RegisteredOptions,
    registered=_options,
    after="hypothesis",
    needs={
        "data": ("imports",),
        "hypothesis": ("imports",),
        **dict.fromkeys(("judge_aspect", "budget", "base_url", "batch", "service_tier"), ("judge",)),
        **dict.fromkeys(("reasoning_effort", "verbosity", "script"), ("judge",)),
        **dict.fromkeys(("model", "adapter"), ("ppl",)),
        "engine_args": ("ppl", "judge"),
    },
    excludes={"verbose": ("as_json",)},
)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=_FILE, shell_complete=complete_runs)
@click.option(
    "--import",
    "imports",
    nargs=2,
    multiple=True,
    metavar="FORMAT FILE",
    type=(str, _FILE),
    help="Replies made elsewhere; may be repeated. An unknown format lists the known ones.",
)
@click.option("--data", type=NAME, help="The data set whose published test rows the files answer: a name or a folder.")
@click.option("--hypothesis", metavar="NAME", help="Which replies of a file that has several.")
@click.option(
    "--metric",
    "names",
    multiple=True,
    metavar="NAME",
    help="Compute only this metric, such as Dist-2 or 'B-2 lower'; may be repeated.",
)
@click.option("--no-bertscore", is_flag=True, help="Skip BERTScore.")
@click.option(
    "--ppl",
    is_flag=True,
    help="Also compute the perplexity of people's replies under each run's own model, started if one lacks it.",
)
@click.option("--model", "-m", type=NAME, help="With --ppl: the runs' model, if it is not found by its recorded name.")
@click.option("--adapter", type=NAME, help="With --ppl: the runs' adapter, if it is not found where it was.")
@click.option(
    "--engine-arg",
    "engine_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="With --ppl or --judge: engine argument for vLLM.",
)
@click.option(
    "--judge",
    type=NAME,
    metavar="MODEL",
    help="Also ask this model whether it prefers the replies to people's (P(choice)).",
)
@click.option(
    "--judge-aspect", type=NAME, metavar="NAME", help="With --judge: the aspect that it judges by; by default Empathy."
)
@click.option("--budget", type=float, metavar="DOLLARS", help="With --judge: most that it may cost in all, earlier "
              "sessions included.")  # fmt: skip
@click.option("--base-url", help="With --judge: the OpenAI-compatible server that has it.")
@hosted_options
@verify_option
@click.option("--script", type=_FILE, hidden=True, help="With --judge: answer from a file, for tests and dry runs.")
@click.option("--by", type=click.Choice(["emotion"]), help="Also each metric of the replies to one emotion at a time.")
@click.option("--common", is_flag=True, help="Only the dialogues that all systems answered.")
@click.option(
    "--out", type=_FILE, help="File for the scores; by default RUN/scores.json or FILE[.HYPOTHESIS].scores.json."
)
@click.option("--verbose", "-v", is_flag=True, help="Also secondary metrics, and how each score is computed.")
@click.option("--json", "as_json", is_flag=True, help="Print every score with its signature, as JSON.")
def score(
    runs: tuple[Path, ...],
    imports: tuple[tuple[str, Path], ...],
    data: str | None,
    hypothesis: str | None,
    names: tuple[str, ...],
    no_bertscore: bool,
    ppl: bool,
    model: str | None,
    adapter: str | None,
    engine_args: tuple[str, ...],
    judge: str | None,
    judge_aspect: str | None,
    budget: float | None,
    base_url: str | None,
    batch: bool,
    service_tier: "ServiceTier | None",
    reasoning_effort: str | None,
    verbosity: str | None,
    script: Path | None,
    by: Literal["emotion"] | None,
    common: bool,
    out: Path | None,
    verbose: bool,
    as_json: bool,
    **registered: Any,
) -> None:
    """Score runs or other systems' replies by automatic metrics, the paper's first.

    RUN is a run's folder. Scores are printed, and stored in each run's folder. docs/metrics.md explains each metric.
    """  # fmt: skip
    from localemp.cli.display import Display
    from localemp.cli.options import parse_engine_args
    from localemp.commands.score import score as score_replies
    from localemp.pipeline.config import RunConfig
    from localemp.utils.text import json_text

    source = click.get_current_context().get_parameter_source
    registered = {name: value for name, value in registered.items() if source(name) != ParameterSource.DEFAULT}
    args, asked = parse_engine_args(engine_args), None
    if judge is not None:
        asked = RunConfig(
            model=judge,
            engine_args=args,
            base_url=base_url,
            batch=batch,
            service_tier=service_tier,
            reasoning_effort=reasoning_effort,
            verbosity=verbosity,
            script=script,
        )
    with Display() as display, resumable(display.say, "run the same command again"):
        result = score_replies(
            runs,
            imports=imports,
            data=data,
            hypothesis=hypothesis,
            metric=names,
            no_bertscore=no_bertscore,
            ppl=ppl,
            model=model,
            adapter=adapter,
            engine_args=args,
            judge=asked,
            judge_aspect=judge_aspect,
            budget=budget,
            by=by,
            common=common,
            out=out,
            on_progress=display.on_progress,
            **registered,
        )
    if as_json:
        click.echo(json_text(result.as_dict(), indent=2))
    else:
        _print(result, names, verbose)
    _check_chosen_models(result, registered)


def _check_chosen_models(result: "ScoreResult", registered: Mapping[str, Any]) -> None:
    """Raise OptionError if a metric cannot use the model that was named for it."""
    from localemp.errors import OptionError
    from localemp.metrics.registry import metric_entries

    for option in _options():
        if option.name not in registered:
            continue
        names = [name for name, entry in metric_entries().items() if entry.needs_model and option in entry.options]
        # A score whose model could not be fetched has no settings; one without references has.
        failed = {
            one.reason
            for each in result.systems
            for one in each.scores
            if one.name in names and one.value is None and not one.signature.settings
        }
        if failed:
            raise OptionError(f"{option.flag} {registered[option.name]}: {' '.join(failed)}")


def _print(result: "ScoreResult", asked: Sequence[str], verbose: bool) -> None:
    from localemp.metrics.base import PAPER
    from localemp.metrics.registry import GROUPS, SECONDARY, by_group
    from localemp.metrics.scoring import LOWER_CASED
    from localemp.reporting.emotion_tables import emotion_table

    scored = result.systems
    lower = ("B-2 lower", "B-4 lower") if any(LOWER_CASED in each.notes for each in scored) else ()
    first = [one.name for one in scored[0].scores if not one.hidden]
    second = [one.name for one in scored[0].scores if one.hidden and (verbose or one.name in (*asked, *lower))]
    mark = "" if result.same_items else _NOT_COMPARABLE
    groups = by_group(first)
    if paper := groups.pop(PAPER, []):
        _print_table(scored, paper, mark)
    for title, names in [*((GROUPS[group], names) for group, names in groups.items()), (SECONDARY, second)]:
        if any(one.value is not None for each in scored for one in each.scores if one.name in names):
            click.echo(title)
            _print_table(scored, names, mark)
    for name, found in result.groups.items():
        print_table(emotion_table(name, found))
    _print_reasons(scored, [*first, *second])
    told: dict[str, list[str]] = {}
    for each in scored:
        for note in each.notes:
            told.setdefault(note, []).append(each.name)
    for note, names in told.items():
        click.echo(f"{', '.join(names)}: {note}")
    for note in result.notes:
        click.echo(f"note: {note}")
    if verbose:
        for each in scored:
            for one in each.scores:
                click.echo(f"{each.name}, {one.name}: {one.signature}")


def _print_table(scored: "Sequence[Scored]", names: Sequence[str], mark: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table
    from rich.text import Text

    from localemp.metrics.registry import decimals, depends_on_number

    # Heads of two words take two lines, so that the paper's columns fit into 80 characters.
    heads = [name.replace(" ", "\n") for name in ("Replies", *names)]
    columns = [Column(head, justify="right", no_wrap=True, min_width=min(len(head), 5)) for head in heads]
    table = Table(
        Column("System", overflow="fold", min_width=8), *columns, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1)
    )
    for each in scored:
        cells = [f"{each.scores[0].signature.items:,}"]
        for one in each.scores:
            if one.name not in names:
                continue
            text = "n/a" if one.value is None else f"{one.value:.{min(decimals(one.name), 3)}f}"
            cells.append(text + (mark if depends_on_number(one.name) and one.value is not None else ""))
        table.add_row(Text(each.name), *cells)
    show_table(table)


def _print_reasons(scored: "Sequence[Scored]", names: Sequence[str]) -> None:
    """Print why metrics have no value, each reason once."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for each in scored:
        for one in each.scores:
            if one.value is None and one.name in names:
                reasons.setdefault(one.reason, {}).setdefault(each.name, []).append(one.name)
    for reason, missing in reasons.items():
        metrics = ", ".join(dict.fromkeys(name for each in missing.values() for name in each))
        whose = "" if len(missing) == len(scored) else f" of {', '.join(missing)}"
        click.echo(f"n/a: {metrics}{whose}: {reason}")
