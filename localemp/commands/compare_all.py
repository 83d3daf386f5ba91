"""`compare` of more than two systems: every pair of them, or each against one, corrected for their number."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from localemp.commands.compare import chosen_metrics, read_replies
from localemp.commands.score import metric_context
from localemp.errors import OptionError
from localemp.metrics.pairing import Pair, pair
from localemp.metrics.registry import BERTSCORE_MODEL, CHOICE, on_request
from localemp.metrics.replies import Replies
from localemp.metrics.significance import CONFIDENCE, SAMPLES, SEED, Comparison, holm
from localemp.metrics.significance import compare as compare_replies
from localemp.metrics.usable import read_usable
from localemp.reporting.systems import names_of
from localemp.utils.formatting import count
from localemp.utils.paths import StrPath, paths_of
from localemp.utils.progress import OnProgress, Progress, silent

_SAMPLES_A_PAIR = 40  # so that one sample at least lies outside each end of a corrected interval


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Two of the systems on the dialogues that both answered.

    Attributes:
        a, b: Their letters; differences are b - a.
        comparisons: One for each metric; `p_holm` is corrected over the pairs.
        items: Number of dialogues that both answered.
        items_sha256: Hash of their ids.
        notes: Notes on the pair.
    """

    a: str
    b: str
    comparisons: tuple[Comparison, ...]
    items: int
    items_sha256: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the pair as JSON values."""
        told: dict[str, Any] = {name: getattr(self, name) for name in ("a", "b", "items", "items_sha256")}
        return told | {"notes": list(self.notes), "comparisons": [one.as_dict() for one in self.comparisons]}


@dataclass(frozen=True, slots=True)
class CompareAllResult:
    """Several systems, compared two at a time.

    Attributes:
        systems: The systems with all their replies, by letter: A, B, ...
        baseline: The letter of the system that all others are compared with; None for all pairs.
        pairs: The pairs that have a dialogue in common.
        confidence: Of each interval. All intervals of a metric hold together with 95 % (Bonferroni).
        samples: Number of random swaps and of resamples for each metric and pair.
        seed: Seed of both.
        notes: Notes on systems, and on pairs without a common dialogue.
        left_out: Runs that could not be read, and why.
    """

    systems: Mapping[str, Replies]
    baseline: str | None
    pairs: tuple[PairComparison, ...]
    confidence: float
    samples: int
    seed: int
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        names = ("baseline", "confidence", "samples", "seed")
        return {
            "format": 1,
            "systems": {
                letter: {"name": system.name, "source": system.source, "replies": len(system)}
                for letter, system in self.systems.items()
            },
            **{name: getattr(self, name) for name in names},
            "correction": "p_holm: Holm over the pairs of a metric; intervals: Bonferroni over the same",
            "notes": list(self.notes),
            "left_out": list(self.left_out),
            "pairs": [each.as_dict() for each in self.pairs],
        }


def compare_all(
    runs: Iterable[StrPath],
    *,
    baseline: StrPath | None = None,
    metric: str | Iterable[str] = (),
    bertscore: bool | None = None,
    bertscore_model: str = BERTSCORE_MODEL.default,
    judge: str | None = None,
    judge_aspect: str | None = None,
    samples: int | None = None,
    seed: int = SEED,
    verbose: bool = False,
    on_progress: OnProgress = silent,
    **metric_settings: Any,
) -> CompareAllResult:
    """Compare systems two at a time: every pair, or each with one of them.

        result = compare_all(["runs/a", "runs/b", "runs/c"], baseline="runs/a", metric="B-4")
        print([(each.b, each.comparisons[0].difference, each.comparisons[0].p_holm) for each in result.pairs])

    Args:
        runs: Folders of runs, or FILE.scores.json; those that cannot be read are left out and named.
        baseline: One of them, or a further one, that all others are compared with.
        metric: As for `compare`, like the next ones.
        bertscore: As for `compare`.
        bertscore_model: As for `compare`.
        judge: As for `compare`.
        judge_aspect: As for `compare`.
        samples: Number of random swaps and of resamples for each metric and pair; by default 1,000, or more for more
            than 25 pairs.
        seed: Seed of both.
        verbose: Also compute the metrics of the secondary columns.
        on_progress: Called with pairs compared, and with what BERTScore fetches and reads.
        **metric_settings: Options of further metrics, see `register_metric`.

    Raises:
        OptionError: Fewer than two systems, no dialogue in any two of them, or too few samples for so many pairs.
        UnknownNameError: There is no such metric.
        RunError, DataError: None of the runs can be read, or the baseline cannot.
    """
    context = metric_context(on_progress, fetch=bool(bertscore), bertscore_model=bertscore_model, **metric_settings)
    context = replace(context, judge=judge or "", aspect=judge_aspect or "")
    systems, left_out = _read(paths_of(runs), None if baseline is None else Path(baseline), on_progress)
    names = [metric] if isinstance(metric, str) else list(metric)
    also = [*on_request(systems.values()), *([CHOICE] if judge or judge_aspect else [])]
    chosen = chosen_metrics(names, bertscore, verbose, context, also)
    notes = [f"{letter}: {note}" for letter, system in systems.items() for note in system.notes]
    wanted = [each for each in combinations(systems, 2) if baseline is None or each[0] == "A"]
    paired = dict(_paired(systems, wanted, notes))
    if not paired:
        raise OptionError("no two of these runs answered the same dialogue", "compare runs of the same data")
    samples = _samples(samples, len(paired))
    confidence = 1 - (1 - CONFIDENCE) / len(paired)
    pairs = []
    for number, ((a, b), both) in enumerate(paired.items()):
        on_progress(Progress("Comparing", number, len(paired), "pairs", f"{a} and {b}"))
        found = compare_replies(both.a, both.b, chosen, samples, seed, confidence=confidence)
        slim = tuple(replace(one, each=None) for one in found)  # values of every reply would add up
        pairs.append(PairComparison(a, b, slim, len(both.a), both.a.ids_sha256, both.notes))
    on_progress(Progress("Comparing", len(paired), len(paired), "pairs"))
    told = (None if baseline is None else "A", _corrected(pairs), confidence, samples, seed, tuple(notes), left_out)
    return CompareAllResult(systems, *told)


def _read(
    paths: Sequence[Path], baseline: Path | None, on_progress: OnProgress
) -> tuple[dict[str, Replies], tuple[str, ...]]:
    """Return the systems by letter, the baseline first, and what was left out."""
    once: dict[Path, Path] = {}
    for path in [*([] if baseline is None else [baseline]), *paths]:
        once.setdefault(path.resolve(), path)
    usable, left_out = read_usable(list(once.values()), read_replies, on_progress)
    if baseline is not None and baseline not in usable:
        read_replies(baseline)  # raises why
    if len(usable) < 2:
        only = "no run" if not usable else f"only {next(iter(usable))}"
        raise OptionError(f"{only} is left to compare", "give two runs or more (`localemp runs list` shows them)")
    named = zip(_letters(len(usable)), usable.values(), names_of(list(usable)), strict=True)
    return {letter: replace(replies, name=name) for letter, replies, name in named}, left_out


def _paired(
    systems: Mapping[str, Replies], wanted: Iterable[tuple[str, str]], notes: list[str]
) -> Iterator[tuple[tuple[str, str], Pair]]:
    """Yield the pairs that have a dialogue in common, which are those that are corrected for; note the others."""
    for a, b in wanted:
        try:
            yield (a, b), pair(systems[a], systems[b])
        except OptionError as error:
            notes.append(f"{a} and {b} are not compared: {error.message}")


def _letters(number: int) -> list[str]:
    return [ascii_uppercase[place % 26] * (place // 26 + 1) for place in range(number)]


def _samples(samples: int | None, pairs: int) -> int:
    least = _SAMPLES_A_PAIR * pairs
    if samples is None:
        return max(SAMPLES, least)
    if samples < least:
        told = f"{samples:,} samples are too few for {count(pairs, 'pair')}"
        raise OptionError(told, f"take at least {least:,}, or a --baseline")
    return samples


def _corrected(pairs: Sequence[PairComparison]) -> tuple[PairComparison, ...]:
    """Correct the p-values of each metric over the pairs."""
    columns = zip(*(each.comparisons for each in pairs), strict=True)
    corrected = [
        [replace(one, p_holm=p) for one, p in zip(column, holm([one.p for one in column]), strict=True)]
        for column in columns
    ]
    rows = zip(*corrected, strict=True)
    return tuple(replace(each, comparisons=tuple(row)) for each, row in zip(pairs, rows, strict=True))
