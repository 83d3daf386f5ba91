"""`compare`: how much two systems differ, how significant that is, and where they differ most."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localemp.commands.score import metric_context
from localemp.errors import DataError, OptionError
from localemp.imports.reading import read_import
from localemp.metrics.base import Metric
from localemp.metrics.pairing import Pair, pair
from localemp.metrics.registry import BERTSCORE, BERTSCORE_MODEL, CHOICE, MetricContext, metrics, on_request
from localemp.metrics.replies import Replies, replies_of_run
from localemp.metrics.scoring import read_scores
from localemp.metrics.significance import (
    CONFIDENCE,
    SAMPLES,
    SEED,
    Comparison,
    Contrast,
    chrf_of_each,
    contrasts,
)
from localemp.metrics.significance import compare as compare_replies
from localemp.runs.run import MANIFEST
from localemp.utils.config_diff import compare_settings
from localemp.utils.files import is_file
from localemp.utils.paths import StrPath
from localemp.utils.progress import OnProgress, silent


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Two systems on the dialogues that both answered.

    Attributes:
        a, b: The systems, with all their replies.
        comparisons: One for each metric: both values, B - A with a 95 % interval, p-values. In the metric's unit.
        items: Number of dialogues that both answered; everything is computed on these.
        items_sha256: Hash of their ids.
        samples: Number of random swaps and of resamples for each metric.
        seed: Seed of both.
        notes: Notes on the two systems.
        settings: Settings that differ between the two runs, one line each.
        measure: The measure that orders `dialogues`: "F_BERT" or "chrF"; None if no reply has a reference.
        dialogues: Those on which the two differ most, the largest difference first.
    """

    a: Replies
    b: Replies
    comparisons: tuple[Comparison, ...]
    items: int
    items_sha256: str
    samples: int
    seed: int
    notes: tuple[str, ...]
    settings: tuple[str, ...]
    measure: str | None
    dialogues: tuple[Contrast, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "format": 1,
            "a": {"name": self.a.name, "source": self.a.source, "replies": len(self.a)},
            "b": {"name": self.b.name, "source": self.b.source, "replies": len(self.b)},
            "items": self.items,
            "items_sha256": self.items_sha256,
            "samples": self.samples,
            "seed": self.seed,
            "confidence": CONFIDENCE,
            "notes": list(self.notes),
            "settings": list(self.settings),
            "comparisons": [one.as_dict() for one in self.comparisons],
            "dialogues": {"measure": self.measure, "differ_most": [one.as_dict() for one in self.dialogues]},
        }


def compare(
    run_a: StrPath,
    run_b: StrPath,
    *,
    metric: str | Iterable[str] = (),
    bertscore: bool | None = None,
    bertscore_model: str = BERTSCORE_MODEL.default,
    judge: str | None = None,
    judge_aspect: str | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
    show: int = 5,
    verbose: bool = False,
    on_progress: OnProgress = silent,
    **metric_settings: Any,
) -> CompareResult:
    """Compare two systems on the dialogues that both answered.

        result = compare("runs/a", "runs/b", metric="B-4")
        print(result.comparisons[0].difference, result.comparisons[0].p)

    Args:
        run_a: A run's folder, or the FILE.scores.json that `score` wrote for replies made elsewhere.
        run_b: The same for the other system.
        metric: Names of metrics, such as "Dist-2"; by default all but those of the secondary columns.
        bertscore: Also compute BERTScore, and fetch its model; by default only if the model is on this machine.
        bertscore_model: A name, a Hugging Face id or a folder of weights; with ":17" appended, layer 17.
        judge: Whose choices P(choice) is of, by name; by default those of the judge that was asked last.
        judge_aspect: By which aspect; by default the one that it was asked about last.
        samples: Number of random swaps and of resamples for each metric; at least 100.
        seed: Seed of both.
        show: Number of dialogues to return, of those on which the two differ most.
        verbose: Also compute the metrics of the secondary columns.
        on_progress: Called with metrics computed, and with what BERTScore fetches and reads.
        **metric_settings: Options of further metrics, see `register_metric`.

    Raises:
        OptionError: No dialogue is in both, or options exclude each other.
        UnknownNameError: There is no such metric.
        RunError: A folder holds no run, or no reply yet.
        DataError: A file holds no scores, or its replies have changed or are missing.
    """
    context = metric_context(on_progress, fetch=bool(bertscore), bertscore_model=bertscore_model, **metric_settings)
    context = replace(context, judge=judge or "", aspect=judge_aspect or "")
    path_a, path_b = Path(run_a), Path(run_b)
    a, b = read_replies(path_a), read_replies(path_b)
    both = pair(a, b)
    notes = [f"{side}: {note}" for side, system in (("A", a), ("B", b)) for note in system.notes] + list(both.notes)
    if path_a.resolve() == path_b.resolve():
        notes.append("A and B are the same run")
    names = [metric] if isinstance(metric, str) else list(metric)
    also = [*on_request((both.a, both.b)), *([CHOICE] if judge or judge_aspect else [])]
    chosen = chosen_metrics(names, bertscore, verbose, context, also)
    found = compare_replies(both.a, both.b, chosen, samples, seed, on_progress)
    measure, shown = _contrasts(both, found, show)
    settings = compare_settings(a.source.get("settings", {}), b.source.get("settings", {}), "in A", "in B")
    return CompareResult(
        a, b, tuple(found), len(both.a), both.a.ids_sha256, samples, seed, tuple(notes), tuple(settings), measure, shown
    )


def read_replies(path: Path) -> Replies:
    """Return the replies of a run's folder, or those that a file of scores belongs to.

    Raises:
        RunError: The folder holds no run, or no reply yet.
        DataError: The file holds no scores, or its replies have changed or are missing.
    """
    if not is_file(path):
        return replies_of_run(path)
    scored = read_scores(path)
    source = scored.source
    if "run" in source:
        replies = replies_of_run(_source_of(path, str(source["run"])))
    elif "file" in source and "format" in source:
        file = _source_of(path, str(source["file"]))
        replies = read_import(source["format"], file, source.get("data"), source.get("hypothesis")).replies
    else:
        raise DataError(path, "it does not say which replies it is of", "give the run's folder")
    if replies.sha256 != scored.sha256:
        raise DataError(
            path, "its replies have changed since they were scored", "score them again with `localemp score`"
        )
    return replies


def _source_of(scores: Path, named: str) -> Path:
    """Return the path of the replies: the one in their scores, else next to these, in case the folder was moved."""
    name = Path(named).name
    beside = scores.parent if is_file(scores.parent / MANIFEST) else scores.parent / name
    places = [place for place in (Path(named), beside) if place.exists()]
    if not places:
        raise DataError(scores, f"the replies that it is of, {named}, are not there", "score them again where they are")
    return places[0]


def chosen_metrics(
    names: Sequence[str], bertscore: bool | None, verbose: bool, context: MetricContext, also: Sequence[str]
) -> list[Metric]:
    """Return the metrics requested by name, else all that tables show; BERTScore's model is fetched only on request."""
    if bertscore is False and set(names) & set(BERTSCORE):
        raise OptionError("--metric asks for BERTScore, --no-bertscore refuses it", "give one of them")
    everything = metrics(context, without=BERTSCORE if bertscore is False else (), also=also, only=names)
    return [each for each in everything if verbose or names or not each.hidden]


def _contrasts(both: Pair, found: Sequence[Comparison], show: int) -> tuple[str | None, tuple[Contrast, ...]]:
    """Return the measure of single replies, and the dialogues on which it differs most."""
    if not show:
        return None, ()
    each = next((one.each for one in found if one.name == "F_BERT" and one.each is not None), None)
    measure = "F_BERT"
    if each is None:
        each, measure = chrf_of_each(both), "chrF"
    return (None, ()) if each is None else (measure, tuple(contrasts(both, each, show)))
