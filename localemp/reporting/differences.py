"""The tables of differences: every run against a base run of the same model, metric by metric, with significance."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localemp.errors import OptionError, UnknownNameError
from localemp.metrics.base import PAPER, Metric
from localemp.metrics.kept_values import KeptMetric
from localemp.metrics.pairing import pair
from localemp.metrics.registry import (
    GROUPS,
    by_group,
    decimals,
    is_hidden,
    metric,
    metric_entries,
    on_request,
)
from localemp.metrics.significance import JACKKNIFE, SAMPLES, SEED, Comparison, holm
from localemp.metrics.significance import compare as compare_replies
from localemp.reporting.systems import System
from localemp.reporting.tables import NOT_AVAILABLE, Cell, Note, Row, Table, listed, not_available
from localemp.utils.formatting import count
from localemp.utils.progress import OnProgress, Progress, silent

SIGNIFICANT = 0.05
SAMPLES_A_ROW = 40  # so that a p corrected for all rows can still be half of SIGNIFICANT


@dataclass(frozen=True, slots=True)
class Difference:
    """One run against its base.

    Attributes:
        system: The run.
        base: What it is compared with.
        comparisons: One for each metric, on the dialogues that both answered; `p_holm` is corrected over the rows.
        items: How many dialogues these are.
        samples: Random swaps, and resamples, for each metric.
        seed: Seed of both.
        notes: What a reader has to know about them.
    """

    system: System
    base: System
    comparisons: tuple[Comparison, ...]
    items: int
    samples: int
    seed: int
    notes: tuple[str, ...] = ()


def bases_of(systems: Sequence[System], names: Sequence[str]) -> dict[str, str]:
    """Return the base run of each other run: of those named the one of the same model, else the first.

    A run is named as in the tables, or by its folder.

    Raises:
        UnknownNameError: There is no run of such a name.
    """
    runs = {system.name: system.settings.get("model") for system in systems if system.replies is not None}
    folders = {system.folder: system.name for system in systems if system.name in runs}
    # The end of a path is enough.
    ends = {name: [called for end, called in folders.items() if f"/{Path(name)}".endswith(f"/{end}")] for name in names}
    names = [name if name in runs else next(iter(ends[name]), name) for name in names]
    for name in names:
        if name not in runs:
            raise UnknownNameError("run to compare with", name, runs)
    of_model = {runs[name]: name for name in reversed(names)}
    return {name: of_model.get(model, names[0]) for name, model in runs.items() if name not in names}


def differences(
    systems: Sequence[System],
    bases: Mapping[str, str],
    samples: int | None = None,
    seed: int = SEED,
    on_progress: OnProgress = silent,
) -> list[Difference]:
    """Compare runs with their base runs, on the dialogues that both answered.

    Args:
        systems: All runs.
        bases: The name of a run, and that of its base.
        samples: Random swaps, and resamples, for each metric; by default 1,000, or more for more than 25 rows.
        seed: Seed of both.
        on_progress: Called with rows compared.

    Raises:
        OptionError: Too few samples.
    """
    runs = {system.name: system for system in systems if system.replies is not None}
    paired = [(system, runs[bases[name]]) for name, system in runs.items() if name in bases]
    rows = max(Counter(bases.values()).values(), default=0)
    samples = samples or max(SAMPLES, SAMPLES_A_ROW * rows)
    metrics = compared_metrics(list(runs.values()))
    found = []
    for number, (system, base) in enumerate(paired):
        on_progress(Progress("Comparing", number, len(paired), "rows", system.name))
        assert system.replies is not None and base.replies is not None
        try:
            both = pair(base.replies, system.replies)
        except OptionError as error:
            found.append(Difference(system, base, (), 0, samples, seed, (error.message,)))
            continue
        compared = compare_replies(both.a, both.b, metrics, samples, seed)
        slim = tuple(replace(one, each=None) for one in compared)  # values of every reply would add up
        found.append(Difference(system, base, slim, len(both.a), samples, seed, both.notes))
    on_progress(Progress("Comparing", len(paired), len(paired), "rows"))
    return _corrected(found)


def difference_tables(found: Sequence[Difference]) -> list[Table]:
    """Return tables for each base, by group of metrics: differences, intervals and p-values, one row a run."""
    tables: list[Table] = []
    for base in dict.fromkeys(each.base.name for each in found):
        rows = [each for each in found if each.base.name == base]
        groups = {PAPER: list[str]()} | by_group(dict.fromkeys(one.name for each in rows for one in each.comparisons))
        for group, names in groups.items():
            # A column in which nothing could be compared would say n/a all over.
            columns = [name for name in names if any(_is_compared(each, name) for each in rows)]
            if columns or group == PAPER:
                tables.append(_table(base, rows, len(tables), group, columns))
    return tables


def compared_metrics(runs: Sequence[System]) -> list[Metric]:
    """Return the metrics that tables show and that can be tested: those with a model from kept values only."""
    kept = {system.name: system.kept for system in runs if system.kept is not None}
    chosen: list[Metric] = []
    asked = on_request(system.replies for system in runs if system.replies is not None)
    for name, entry in metric_entries().items():
        if is_hidden(name) or (entry.on_request and name not in asked):
            continue
        if not entry.needs_model:
            chosen.append(metric(name))
        elif any(name in each.values for each in kept.values()):
            chosen.append(KeptMetric(name, kept))
    return chosen


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """Correct the p-values of each metric over the rows that are compared with one base."""
    corrected: dict[tuple[str, str, str], float | None] = {}
    places: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    for each in found:
        for one in each.comparisons:
            places.setdefault((each.base.name, one.name), []).append((each.system.name, one.p))
    for (base, name), ps in places.items():
        for (system, _), p in zip(ps, holm([p for _, p in ps]), strict=True):
            corrected[base, name, system] = p
    return [
        replace(
            each,
            comparisons=tuple(
                replace(one, p_holm=corrected[each.base.name, one.name, each.system.name]) for one in each.comparisons
            ),
        )
        for each in found
    ]


def _is_compared(each: Difference, name: str) -> bool:
    return any(one.name == name and one.difference is not None for one in each.comparisons)


def _table(base: str, rows: Sequence[Difference], number: int, group: str, columns: Sequence[str]) -> Table:
    everyone = [each.system.name for each in rows]
    values = [{one.name: one for one in each.comparisons} for each in rows]
    same = len({each.items for each in rows}) == 1
    on = f", {count(rows[0].items, 'dialogue')}" if same else ""
    reasons: dict[str, dict[str, list[str]]] = {}
    made = []
    for each, of in zip(rows, values, strict=True):
        cells = [] if same else [Cell(f"{each.items:,}", each.items, "dialogues that both answered")]
        for name in columns:
            cell = _cell(of.get(name), each)
            if cell.value is None:
                reasons.setdefault(cell.about, {}).setdefault(name, []).append(each.system.name)
            cells.append(cell)
        made.append(Row(each.system.name, tuple(cells), each.system.about, warning=each.system.warning))
    return Table(
        "differences" if not number else f"differences-{number + 1}",
        "differences",
        f"Against {base}{on}" + ("" if group == PAPER else f": {GROUPS[group]}"),
        "System",
        (*([] if same else ["Dialogues"]), *columns),
        tuple(made),
        (*not_available(reasons, everyone), *_notes(base, rows, columns)),
    )


def _cell(one: Comparison | None, each: Difference) -> Cell:
    if one is None or one.difference is None:
        reason = one.reason if one is not None else "; ".join(each.notes)
        return Cell(NOT_AVAILABLE, about=reason or "nothing to compare")
    places = decimals(one.name)
    real = one.p_holm is not None and one.p_holm < SIGNIFICANT
    lines = [f"{one.difference:+.{places}f}{' *' if real else ''}"]
    if one.interval is not None:
        lines.append(f"[{', '.join(f'{end:.{places}f}' for end in one.interval)}]")
    lines.append(f"p {_p(one.p_holm)}")
    assert one.a is not None and one.b is not None
    told = f"{each.base.name} {one.a:.{places}f}, {each.system.name} {one.b:.{places}f} on {each.items:,} dialogues"
    by = f"; interval by {one.interval_by}" if one.interval_by else ""
    about = f"{told}; p {_p(one.p)}, corrected {_p(one.p_holm)}{by}; {one.signature}"
    return Cell("\n".join(lines), one.difference, about, interval=one.interval)


def _p(value: float | None) -> str:
    if value is None:
        return NOT_AVAILABLE
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def _notes(base: str, rows: Sequence[Difference], columns: Sequence[str]) -> list[Note]:
    by = {(one.name, one.interval_by) for each in rows for one in each.comparisons}
    jackknifed = [name for name in columns if (name, JACKKNIFE) in by]
    family = count(len(rows), "row")
    defined = [
        f"The row's value minus that of {base}, on the dialogues that both answered; below it the 95 % interval of the "
        "difference by paired bootstrap, then p.",
        f"p is two-sided, by approximate randomisation with {rows[0].samples:,} samples and seed {rows[0].seed}. "
        f"It is corrected by Holm's method over the {family} of its column; columns are not corrected for one another. "
        f"* is p below {SIGNIFICANT}. `localemp compare` shows the uncorrected p, and the paper's t-test.",
    ]
    about: dict[str, list[str]] = {}
    for each in rows:
        for note in each.notes:
            about.setdefault(note, []).append(each.system.name)
    told = [f"Intervals of {listed(jackknifed)}: by jackknife."] if jackknifed else []
    told += [f"{listed(names)}: {note}." for note, names in about.items()]
    return [*(Note(text, defines=True) for text in defined), *map(Note, told)]


def as_json(found: Sequence[Difference]) -> list[Mapping[str, object]]:
    """Return the differences as JSON values, unrounded, with signatures."""
    return [
        {
            "row": each.system.name,
            "base": each.base.name,
            "items": each.items,
            "samples": each.samples,
            "seed": each.seed,
            "notes": list(each.notes),
            "comparisons": [one.as_dict() for one in each.comparisons],
        }
        for each in found
    ]
