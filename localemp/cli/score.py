"""`localemp score`: the paper's automatic metrics, of runs or of replies made elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from localemp.cli.interrupts import resumable
from localemp.cli.registered import RegisteredOptions
from localemp.utils.interrupts import noting
from localemp.utils.words import share

if TYPE_CHECKING:
    from localemp.cli.display import Display
    from localemp.metrics.replies import Replies
    from localemp.metrics.scoring import Scored
    from localemp.utils.option import Option

_FILE = click.Path(path_type=Path)
_NOT_COMPARABLE = "*"


def _options() -> "tuple[Option, ...]":
    from localemp.metrics.registry import metric_options

    return metric_options()


@click.command(cls=RegisteredOptions, registered=_options, after="hypothesis")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=_FILE)
@click.option(
    "--import",
    "imports",
    nargs=2,
    multiple=True,
    metavar="FORMAT FILE",
    type=(str, _FILE),
    help="Replies made elsewhere; may be repeated. An unknown format lists the known ones.",
)
@click.option("--data", help="The data set whose published test rows the files answer: a name or a folder.")
@click.option("--hypothesis", metavar="NAME", help="Which replies of a file that has several.")
@click.option("--no-bertscore", is_flag=True, help="Leave BERTScore out.")
@click.option("--common", is_flag=True, help="Only the dialogues that all systems answered.")
@click.option(
    "--out", type=_FILE, help="Where scores are kept; by default RUN/scores.json or FILE[.HYPOTHESIS].scores.json."
)
@click.option("--verbose", "-v", is_flag=True, help="The second columns too, and how every score is made.")
@click.option("--json", "as_json", is_flag=True, help="Print every score with its signature, as JSON.")
def score(
    runs: tuple[Path, ...],
    imports: tuple[tuple[str, Path], ...],
    data: str | None,
    hypothesis: str | None,
    no_bertscore: bool,
    common: bool,
    out: Path | None,
    verbose: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Score runs, or replies made elsewhere, as the paper does.

    RUN is a run's folder. Scores are printed, and kept beside each run. docs/metrics.md says how each is made.
    """  # fmt: skip
    from localemp.cli.display import Display
    from localemp.errors import OptionError
    from localemp.metrics.registry import BERTSCORE
    from localemp.metrics.scoring import on_common
    from localemp.utils.text import json_text

    if not runs and not imports:
        raise OptionError("nothing to score", "give runs (`localemp runs list` shows them), or --import FORMAT FILE")
    if not imports and (data or hypothesis):
        raise OptionError("--data and --hypothesis are for files", "give one with --import FORMAT FILE")
    systems, places = _systems(runs, imports, data, hypothesis)
    if out and len(systems) > 1:
        raise OptionError("--out is for the scores of one system", "score one at a time, or leave it out")
    whole = [len(system) for system in systems]
    if common and len(systems) > 1:
        systems = on_common(systems)
    places = [out or place for place in places]
    with Display() as display, resumable(display.say, "run the same command again"), noting(_saved(systems, places)):
        scored = _score(systems, told, () if not no_bertscore else BERTSCORE, display)
        kept = [
            _keep(place, each, required=out is not None)
            for place, each, system, length in zip(places, scored, systems, whole, strict=True)
            if len(system) == length or out
        ]
    notes = [note for note in (*_comparability(systems), *kept) if note]
    if as_json:
        told = {"format": 1, "notes": notes, "systems": [each.as_dict() for each in scored]}
        click.echo(json_text(told, indent=2))
    else:
        _print(systems, scored, notes, verbose)
    chosen = click.get_current_context().get_parameter_source("bertscore_model") != ParameterSource.DEFAULT
    # A score whose model could not be had has no settings; one without references has.
    failed = {one.reason for each in scored for one in each.scores if one.value is None and not one.signature.settings}
    if chosen and failed and not no_bertscore:
        raise OptionError(f"--bertscore-model {told['bertscore_model']}: {' '.join(failed)}")


def _systems(
    runs: Sequence[Path], imports: Sequence[tuple[str, Path]], data: str | None, hypothesis: str | None
) -> "tuple[list[Replies], list[Path]]":
    """The replies, each under a name of its own, and where their scores are kept."""
    from localemp.imports.reading import read_import
    from localemp.metrics.replies import replies_of_run
    from localemp.metrics.scoring import scores_path

    runs = list({run.resolve(): run for run in runs}.values())
    systems = [replies_of_run(run) for run in runs]
    read = [read_import(format, path, data, hypothesis) for format, path in imports]
    systems += [each.replies for each in read]
    paths = [*runs, *(path for _, path in imports)]
    # One of several hypotheses does not take another's place.
    named = [str(each.replies.source["hypothesis"]) if len(each.hypotheses) > 1 else "" for each in read]
    places = [scores_path(path, name) for path, name in zip(paths, [""] * len(runs) + named, strict=True)]
    names = [system.name for system in systems]
    for number, path in enumerate(paths):
        if names.count(names[number]) > 1:
            systems[number] = replace(systems[number], name=str(path))
    return systems, places


def _score(
    systems: "Sequence[Replies]", options: Mapping[str, Any], without: Sequence[str], display: "Display"
) -> "list[Scored]":
    from localemp.metrics.registry import MetricContext, metrics
    from localemp.metrics.scoring import score_all
    from localemp.utils.progress import Progress

    chosen = metrics(MetricContext(options, on_progress=display.on_progress), without=without)
    scored = []
    for number, system in enumerate(systems):
        display.on_progress(Progress("Scoring", number, len(systems), "systems"))
        scored.append(score_all(system, chosen))
    display.on_progress(Progress("Scoring", len(systems), len(systems), "systems"))
    return scored


def _saved(systems: "Sequence[Replies]", places: Sequence[Path]) -> Callable[[], str]:
    """Says of how many systems scores are in the files."""
    from localemp.errors import DataError
    from localemp.metrics.scoring import read_scores

    def is_saved(system: "Replies", path: Path) -> bool:
        try:
            return read_scores(path).sha256 == system.sha256
        except DataError:
            return False

    return lambda: f"scores of {share(sum(map(is_saved, systems, places)), len(systems), 'system')} saved"


def _keep(path: Path, scored: "Scored", *, required: bool) -> str:
    """Write the scores; where a folder that nobody named cannot be written, that is a note and no error."""
    from localemp.errors import DataError
    from localemp.metrics.scoring import write_scores

    try:
        write_scores(path, scored)
    except DataError as error:
        if required:
            raise
        return f"the scores of {scored.name} are not kept: {error.message}; {error.hint}"
    return ""


def _comparability(systems: "Sequence[Replies]") -> list[str]:
    if len(systems) < 2 or _same_items(systems):
        return []
    counted = ", ".join(f"{system.name} {len(system):,}" for system in systems)
    return [
        f"the systems did not answer the same dialogues ({counted}): their scores are not of the same things, and "
        f"Dist, which falls with the number of replies, cannot be compared ({_NOT_COMPARABLE}); "
        "--common scores the dialogues that all of them answered"
    ]


def _same_items(systems: "Sequence[Replies]") -> bool:
    return len({frozenset(system.ids) for system in systems}) == 1


def _print(systems: "Sequence[Replies]", scored: "Sequence[Scored]", notes: Sequence[str], verbose: bool) -> None:
    from localemp.metrics.scoring import is_lower_cased

    lower = ("B-2 lower", "B-4 lower") if any(map(is_lower_cased, systems)) else ()
    first = [one.name for one in scored[0].scores if not one.hidden]
    second = [one.name for one in scored[0].scores if one.hidden and (verbose or one.name in lower)]
    mark = "" if _same_items(systems) else _NOT_COMPARABLE
    for names in (first, second):
        if names:
            _print_table(scored, names, mark)
    _print_reasons(scored, [*first, *second])
    told: dict[str, list[str]] = {}
    for each in scored:
        for note in each.notes:
            told.setdefault(note, []).append(each.name)
    for note, names in told.items():
        click.echo(f"{', '.join(names)}: {note}")
    for note in notes:
        click.echo(f"note: {note}")
    if verbose:
        for each in scored:
            for one in each.scores:
                click.echo(f"{each.name}, {one.name}: {one.signature}")


def _print_table(scored: "Sequence[Scored]", names: Sequence[str], mark: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from localemp.metrics.registry import decimals

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
            cells.append(text + (mark if one.name.startswith("Dist") and one.value is not None else ""))
        table.add_row(Text(each.name), *cells)
    console = Console()
    if not console.is_terminal:  # nothing is left out where nobody's window is too narrow
        console.width = max(console.width, console.measure(table, options=console.options.update(width=400)).maximum)
    console.print(table)


def _print_reasons(scored: "Sequence[Scored]", names: Sequence[str]) -> None:
    """Why a metric has no value, each reason once."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for each in scored:
        for one in each.scores:
            if one.value is None and one.name in names:
                reasons.setdefault(one.reason, {}).setdefault(each.name, []).append(one.name)
    for reason, missing in reasons.items():
        metrics = ", ".join(dict.fromkeys(name for each in missing.values() for name in each))
        whose = "" if len(missing) == len(scored) else f" of {', '.join(missing)}"
        click.echo(f"n/a: {metrics}{whose}: {reason}")
