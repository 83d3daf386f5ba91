"""`localemp compare`: how much runs differ, how significant that is, and where two of them differ most."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from localemp.cli.compare_all import print_all
from localemp.cli.completion import complete_runs
from localemp.cli.registered import RegisteredOptions
from localemp.cli.tables import show_table
from localemp.cli.types import NAME, PATH
from localemp.errors import OptionError
from localemp.utils.formatting import count

if TYPE_CHECKING:
    from localemp.commands.compare import CompareResult
    from localemp.metrics.significance import Comparison, Contrast
    from localemp.utils.option import Option


def _options() -> "tuple[Option, ...]":
    from localemp.metrics.registry import metric_options

    return metric_options()


@click.command(cls=RegisteredOptions, registered=_options, after="bertscore")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=PATH, shell_complete=complete_runs)
@click.option(
    "--baseline",
    type=PATH,
    metavar="RUN",
    help="Compare each run with this one; by default every pair of runs, the second minus the first.",
)
@click.option(
    "--metric",
    "names",
    multiple=True,
    metavar="NAME",
    help="Compare only this metric, such as Dist-2 or 'B-2 lower'; may be repeated. "
    "By default all but the secondary ones.",
)
@click.option(
    "--bertscore/--no-bertscore",
    default=None,
    help="Also BERTScore, fetching its model; by default only if the model is on this machine.",
)
@click.option("--judge", type=NAME, metavar="NAME", help="Whose P(choice); by default the judge asked last.")
@click.option("--judge-aspect", type=NAME, metavar="NAME", help="By which aspect; by default the one asked about last.")
@click.option(
    "--samples",
    type=click.IntRange(min=100),
    help="Random swaps, and resamples, for each metric; by default 1,000, and more for more than 25 pairs.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of swaps and resamples.")
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Of two runs: dialogues to show, where they differ most.",
)
@click.option("--verbose", "-v", is_flag=True, help="Also secondary metrics, and how each score is computed.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with signatures.")
def compare(
    runs: tuple[Path, ...],
    baseline: Path | None,
    names: tuple[str, ...],
    bertscore: bool | None,
    judge: str | None,
    judge_aspect: str | None,
    samples: int | None,
    seed: int,
    show: int,
    verbose: bool,
    as_json: bool,
    **registered: Any,
) -> None:
    """Compare runs, two at a time, on the dialogues that both answered.

    RUN is a run's folder, or the FILE.scores.json that `localemp score --import` wrote for replies made elsewhere.

    For each metric: both values, the difference with an interval, and a p-value. Of two runs also the paper's test,
    which is a paired t-test, and the dialogues on which they differ most. Of more, p-values and intervals are corrected
    for the number of pairs. docs/comparing.md says how to read it.
    """
    from localemp.cli.display import Display
    from localemp.commands.compare import compare as compare_runs
    from localemp.commands.compare_all import compare_all
    from localemp.utils.text import json_text

    others = [run for run in runs if baseline is None or run.resolve() != baseline.resolve()]
    given = [*([] if baseline is None else [baseline]), *others]
    settings = {
        "metric": names,
        "bertscore": bertscore,
        "judge": judge,
        "judge_aspect": judge_aspect,
        "seed": seed,
        "verbose": verbose,
        **registered,
    }
    if len(given) < 2:
        raise OptionError("one run alone cannot be compared", "give two or more (`localemp runs list` shows them)")
    if len(given) > 2:
        _refuse_show()
        with Display() as display:
            all_pairs = compare_all(
                runs, baseline=baseline, samples=samples, on_progress=display.on_progress, **settings
            )
        if as_json:
            click.echo(json_text(all_pairs.as_dict(), indent=2))
        else:
            print_all(all_pairs, verbose)
        return
    run_a, run_b = given
    with Display() as display:
        result = compare_runs(
            run_a, run_b, samples=samples or 1000, show=show, on_progress=display.on_progress, **settings
        )
    if as_json:
        click.echo(json_text(result.as_dict(), indent=2))
        return
    _print_two(run_a, run_b, result, verbose, show)


def _refuse_show() -> None:
    if click.get_current_context().get_parameter_source("show") != ParameterSource.DEFAULT:
        raise OptionError("--show is for two runs", "omit it, or compare two of them")


def _print_two(run_a: Path, run_b: Path, result: "CompareResult", verbose: bool, show: int) -> None:
    for side, run, system in (("A", run_a, result.a), ("B", run_b, result.b)):
        click.echo(f"{side}: {run}, {count(len(system), 'reply', 'replies')}")
    for line in result.settings:
        click.echo(f"   {line}")
    for note in result.notes:
        click.echo(f"note: {note}")
    _print_table(result.comparisons, result.items, result.samples, result.seed)
    _print_t_tests(result.comparisons)
    if verbose:
        for one in result.comparisons:
            click.echo(f"{one.name}: {one.signature}")
    if show:
        _print_contrasts(result.measure, result.dialogues)


def _print_table(found: "Sequence[Comparison]", items: int, samples: int, seed: int) -> None:
    from rich.table import Column, Table

    from localemp.metrics.registry import decimals
    from localemp.metrics.significance import JACKKNIFE

    right = [
        Column(head, justify="right", no_wrap=True) for head in ("A", "B", "B - A", "95 % interval", "p", "p Holm")
    ]
    table = Table(Column("Metric", no_wrap=True), *right, title=count(items, "dialogue"), title_justify="left")
    known = {one.group for one in found if one.a is not None or one.b is not None}
    shown = [one for one in found if one.group in known or not known]
    for number, one in enumerate(shown):
        if number and one.group != shown[number - 1].group:
            table.add_section()
        places = decimals(one.name)
        low_high = None if one.interval is None else ", ".join(f"{end:+.{places}f}" for end in one.interval)
        table.add_row(
            one.name,
            _number(one.a, f".{places}f"),
            _number(one.b, f".{places}f"),
            _number(one.difference, f"+.{places}f"),
            f"[{low_high}]".replace("[", r"\[") if low_high else "n/a",
            _number(one.p, ".3f"),
            _number(one.p_holm, ".3f"),
        )
    show_table(table)
    for reason in dict.fromkeys(one.reason for one in found if one.reason):
        click.echo(f"n/a: {', '.join(one.name for one in found if one.reason == reason)}: {reason}")
    if lower := [one.name for one in found if one.higher_is_better is False and one.difference is not None]:
        click.echo(f"lower is better: {', '.join(lower)}")
    tested = [str(number) for number in Counter(one.family for one in found if one.p is not None).values()]
    jackknifed = ", ".join(one.name for one in found if one.interval_by == JACKKNIFE)
    families = " and ".join(tested) or "no"
    click.echo(
        f"p: approximate randomisation, two-sided, {samples:,} samples, seed {seed}; Holm: over {families} p-values"
    )
    click.echo("intervals: paired bootstrap, the same samples" + (f"; jackknife: {jackknifed}" if jackknifed else ""))


def _print_t_tests(found: "Sequence[Comparison]") -> None:
    """Print the paper's own test, for metrics of single replies, with doubts about its assumptions."""
    tests = {one.name: one.t_test for one in found if one.t_test}
    tested = [
        f"{name} t {each.t:.2f}, p {'<0.001' if each.p < 0.001 else f'{each.p:.3f}'}"
        for name, each in tests.items()
        if each.t is not None and each.p is not None
    ]
    click.echo(f"paired t-tests over the dialogues, B - A, two-sided, not corrected: {'; '.join(tested) or 'none'}")
    told: dict[str, list[str]] = {}
    for one in found:
        if one.a is None or one.b is None:  # reported by the table
            continue
        if one.t_test is None:
            whys = ["n/a: a single reply has no value"]
        elif one.t_test.reason:
            whys = [f"n/a: {one.t_test.reason}"]
        else:
            whys = [f"in doubt: {doubt}" for doubt in one.t_test.doubts]
            whys += [] if one.is_mean else ["of single replies, whose mean the value above is not"]
        for why in whys:
            told.setdefault(why, []).append(one.name)
    for why, names in told.items():
        click.echo(f"   {', '.join(names)}: {why}")


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _print_contrasts(measure: str | None, shown: "Sequence[Contrast]") -> None:
    from rich.console import Console, Group
    from rich.panel import Panel

    if measure is None:
        click.echo("no reference replies to put the dialogues in order by")
        return
    console = Console()
    console.print(
        f"Where they differ most by {measure} (it puts dialogues in order, and judges none):", highlight=False
    )
    if not shown:
        console.print("nowhere")
    for one in shown:
        told: Mapping[str, Any] = one.as_dict()
        places = 3 if measure == "F_BERT" else 1
        said = [_line("Speaker", told["turns"][-1])] if told["turns"] else []
        said += [_line("Person", told["reference"] or "")]
        said += [_line(f"A {one.value_a:.{places}f}", one.a.text), _line(f"B {one.value_b:.{places}f}", one.b.text)]
        console.print(Panel(Group(*said), title=_line("", one.a.id), title_align="left"))


def _line(label: str, text: str) -> Any:
    from textwrap import shorten

    from localemp.cli.replies import LONGEST_SHOWN, plain

    said = plain(shorten(text, LONGEST_SHOWN, placeholder=" ...") or "(empty)")
    return plain(f"{label}: ", "bold") + said if label else said
