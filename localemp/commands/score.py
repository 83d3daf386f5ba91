"""`score`: compute automatic metrics of runs or other systems' replies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from localemp.engines.budget import Limit
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.imports.reading import read_import
from localemp.metrics.base import Metric
from localemp.metrics.choice import Choice, intervals_in_words
from localemp.metrics.groups import Group, by_emotion, check_by
from localemp.metrics.kept_values import write_values
from localemp.metrics.registry import (
    BERTSCORE,
    BERTSCORE_MODEL,
    CHOICE,
    EMBSIM,
    EMBSIM_MODEL,
    PERPLEXITY,
    MetricContext,
    bertscore,
    metric_options,
    metrics,
    on_request,
)
from localemp.metrics.registry import metric as metric_of
from localemp.metrics.replies import Replies, replies_of_run
from localemp.metrics.scoring import Scored, on_common, read_scores, score_all, scores_path, write_scores
from localemp.metrics.usable import read_usable
from localemp.pipeline.config import RunConfig
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.paths import StrPath, paths_of
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.studies.judging.preferences import Asked


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The scores of one or more systems.

    Attributes:
        systems: One for each run or file, in the given order. Each score has its value in the unit that
            docs/metrics.md gives, or the reason for having none, and its signature.
        notes: Notes on comparability, and on scores that could not be written.
        left_out: Runs that could not be scored, and why.
        groups: With `by`: for each system that knows its dialogues' emotions its metrics by emotion.
    """

    systems: tuple[Scored, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    groups: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)

    @property
    def same_items(self) -> bool:
        """Whether all systems answered the same dialogues, so that their scores are comparable."""
        return len({system.scores[0].signature.items_sha256 for system in self.systems}) == 1

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        told = {"notes": list(self.notes), "left_out": list(self.left_out)}
        groups = {name: [each.as_dict() for each in found] for name, found in self.groups.items()}
        by = {"by_emotion": groups} if groups else {}
        return {"format": 1, **told, "systems": [system.as_dict() for system in self.systems], **by}


def score(
    runs: StrPath | Iterable[StrPath] = (),
    *,
    imports: Iterable[tuple[str, StrPath]] = (),
    data: str | None = None,
    hypothesis: str | None = None,
    bertscore_model: str = BERTSCORE_MODEL.default,
    metric: str | Iterable[str] = (),
    no_bertscore: bool = False,
    ppl: bool = False,
    model: str | None = None,
    adapter: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    judge: str | RunConfig | None = None,
    judge_aspect: str | None = None,
    budget: Limit = None,
    by: Literal["emotion"] | None = None,
    common: bool = False,
    out: StrPath | None = None,
    on_progress: OnProgress = silent,
    **metric_settings: Any,
) -> ScoreResult:
    """Score runs or other systems' replies by automatic metrics. Scores are written to each run's folder.

        result = score("runs/mine", no_bertscore=True)
        print(result.systems[0].score("B-4").value)

    Args:
        runs: Folders of runs; each is scored once. Among several, those without a reply are left out and named.
        imports: Format and file of replies made elsewhere.
        data: The data set whose published test rows the files answer; a name or a folder.
        hypothesis: Which replies of a file that has several.
        bertscore_model: A name, a Hugging Face id or a folder of weights; with ":17" appended, layer 17.
        metric: Names of metrics, such as "B-4"; only these are computed, and what `ppl` and `judge` ask for. By default
            all that need nothing else.
        no_bertscore: Skip BERTScore.
        ppl: Also compute the perplexity of the references. The runs' own model is started for it, and what it finds is
            kept in the runs' folders, so that only what is missing is computed.
        model: With `ppl`: the runs' model, if it is not found by its recorded name: a profile or a folder of weights.
        adapter: With `ppl`: the runs' adapter, if it is not found where it was.
        engine_args: With `ppl`, or a `judge` that is given by name: vLLM's engine arguments.
        judge: Also ask this model whether it prefers the replies to people's: a name, a Hugging Face id, a folder of
            weights or a profile; or a whole configuration. What it answers is kept beside the replies, so that only
            what is missing is asked. By default P(choice) is of the judge that was asked last, if any was.
        judge_aspect: With `judge`: the aspect of the questionnaire that it judges by, Empathy by default.
        budget: With `judge`: US dollars that it may cost in all, earlier sessions included.
        by: "emotion" to compute each metric also of the replies to one emotion at a time.
        common: Only the dialogues that all systems answered; such scores are not written unless `out` is given.
        out: Where scores are written; by default RUN/scores.json or FILE[.HYPOTHESIS].scores.json.
        on_progress: Called with systems scored, and with what metrics and models fetch and read.
        **metric_settings: Options of further metrics, see `register_metric`.

    Raises:
        OptionError: There is nothing to score, or options exclude each other.
        RunError: No folder holds a run with a reply; or the model for `ppl` is not the one that made a run.
        DataError: A file cannot be read, or `out` cannot be written.
        EngineError: The model for `ppl` or the judge cannot be started; what it has computed is kept.
        JudgeError: Too many answers of the judge cannot be read.
        KeyboardInterrupt: Ctrl-C; the note says how many systems' scores are written.
    """
    context = metric_context(on_progress, bertscore_model=bertscore_model, **metric_settings)
    paths, imports = paths_of(runs), list(imports)
    if not paths and not imports:
        raise OptionError("nothing to score", "give runs (`localemp runs list` shows them), or --import FORMAT FILE")
    if not imports and (data or hypothesis):
        raise OptionError("--data and --hypothesis are for files", "give one with --import FORMAT FILE")
    names = [metric] if isinstance(metric, str) else list(metric)
    if no_bertscore and set(names) & set(BERTSCORE):
        raise OptionError("--metric asks for BERTScore, --no-bertscore refuses it", "give one of them")
    metrics(context, only=names)  # an unknown name ends here, before anything is read
    systems, places, left_out = _systems(paths, imports, data, hypothesis)
    if out is not None and len(systems) > 1:
        raise OptionError("--out is for the scores of one system", "score one at a time, or leave it out")
    whole = [len(system) for system in systems]
    if common and len(systems) > 1:
        systems = on_common(systems)
    if out is not None:
        places = [Path(out)]
    if not ppl and (model or adapter or (engine_args and judge is None)):
        raise OptionError("--model, --adapter and --engine-arg are for --ppl", "add --ppl, or omit them")
    if judge_aspect and judge is None:
        raise OptionError("--judge-aspect is for --judge", "add --judge, or omit it")
    check_by(by)
    if by is not None and not any(item.emotion for system in systems for item in system.items):
        raise OptionError(f"--by {by}: no dialogue has an {by}", "omit it; docs/data.md has data sets with emotions")
    if budget is not None and judge is None:
        raise OptionError("--budget is for --judge, and nothing else costs money", "add --judge, or omit it")
    unscored = add_perplexities(systems, model, adapter, engine_args, on_progress) if ppl else []
    if unscored and len(unscored) == len(systems):
        raise OptionError(unscored[0], "omit --ppl")
    if judge is not None:
        config = judge if isinstance(judge, RunConfig) else RunConfig(model=judge, engine_args=engine_args or {})
        asked = add_choices(systems, config, judge_aspect, on_progress, budget)
        if len(asked.refused) == len(systems):
            raise OptionError(asked.notes[0], "omit --judge")
        context = replace(context, judge=asked.judge, aspect=asked.aspect)
        unscored += asked.notes
    with noting(partial(_saved, systems, places)):
        requested = [*(PERPLEXITY if ppl else ()), *([] if judge is None else [CHOICE])]
        requested += [EMBSIM] if EMBSIM_MODEL.name in metric_settings else []
        also, only = {*on_request(systems), *requested}, [*names, *requested] if names else []
        chosen = metrics(context, without=BERTSCORE if no_bertscore else (), also=also, only=only)
        if not (names or no_bertscore):
            chosen += _stand_in(chosen, systems, context)
        scored = _score(systems, context, chosen)
        grouped = {system.name: by_emotion(system, chosen) for system in systems} if by else {}
        unwritten = [
            _write(place, each, required=out is not None)
            for place, each, system, length in zip(places, scored, systems, whole, strict=True)
            if len(system) == length or out is not None
        ]
        if out is None:
            unwritten += [
                _keep_values(place.parent, system, chosen, context)
                for place, system, length in zip(places, systems, whole, strict=True)
                if len(system) == length and "run" in system.source
            ]
    intervals = [
        intervals_in_words({system.name: each.interval(system) for system in systems})
        for each in chosen
        if isinstance(each, Choice)
    ]
    hints = dict.fromkeys(system.truncation.hint for system in systems if system.truncation.hint)
    truncated = [f"truncated replies are scored as they stand; {hint}" for hint in hints]
    notes = (_comparability(systems), *unscored, *intervals, *truncated, *unwritten)
    groups = {name: found for name, found in grouped.items() if found}
    return ScoreResult(tuple(scored), tuple(filter(None, notes)), left_out, groups)


def _stand_in(chosen: Sequence[Metric], systems: Sequence[Replies], context: MetricContext) -> list[Metric]:
    """Return EmbSim if BERTScore's model cannot be had; nothing is fetched for it."""
    of_no_use = all(system.without_reference() for system in systems) or any(each.name == EMBSIM for each in chosen)
    return [] if of_no_use or not bertscore(context).lacking() else [metric_of(EMBSIM, replace(context, fetch=False))]


def _systems(
    runs: Sequence[Path], imports: Sequence[tuple[str, StrPath]], data: str | None, hypothesis: str | None
) -> tuple[list[Replies], list[Path], tuple[str, ...]]:
    """Return the replies, each system with a unique name, the files for their scores, and runs that were left out."""
    usable, left_out = read_usable(list({run.resolve(): run for run in runs}.values()), replies_of_run)
    runs, systems = list(usable), list(usable.values())
    read = [read_import(format, Path(path), data, hypothesis) for format, path in imports]
    systems += [each.replies for each in read]
    paths = [*runs, *(Path(path) for _, path in imports)]
    # Each of several hypotheses has its own file.
    named = [str(each.replies.source["hypothesis"]) if len(each.hypotheses) > 1 else "" for each in read]
    places = [scores_path(path, name) for path, name in zip(paths, [""] * len(runs) + named, strict=True)]
    names = [system.name for system in systems]
    for number, path in enumerate(paths):
        if names.count(names[number]) > 1:
            systems[number] = replace(systems[number], name=str(path))
    return systems, places, left_out


def add_perplexities(
    systems: Sequence[Replies],
    model: str | None = None,
    adapter: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
) -> list[str]:
    """Compute the log probabilities that PPL needs and runs lack; return a note for each system that cannot have it.

    Args:
        systems: Their replies.
        model: As for `score`.
        adapter: As for `score`.
        engine_args: As for `score`.
        on_progress: Called with weights that are fetched or verified, and with references scored.

    Raises:
        LocalempError: As for `score`.
    """
    from localemp.pipeline.references import score_references

    runs = {Path(system.source["run"]): system for system in systems if "run" in system.source}
    refused = score_references(
        list(runs), model=model, adapter=adapter, engine_args=engine_args, on_progress=on_progress
    )
    reasons = {
        system.name: "it is no run: its prompts are not known" for system in systems if "run" not in system.source
    }
    reasons |= {runs[run].name: reason for run, reason in refused.items()}
    return [f"no PPL for {name}: {reason}" for name, reason in reasons.items()]


def add_choices(
    systems: Sequence[Replies],
    judge: RunConfig,
    aspect: str | None = None,
    on_progress: OnProgress = silent,
    budget: Limit = None,
) -> "Asked":
    """Ask a judge what P(choice) needs and is not known yet, and keep it.

    Args:
        systems: Their replies.
        judge: The judge.
        aspect: As for `score`.
        on_progress: Called with weights that are fetched or verified, and with answers.
        budget: As for `score`.

    Raises:
        LocalempError: As for `score`.
    """
    from localemp.studies.judging.preferences import ask_preferences

    return ask_preferences(systems, judge, aspect, on_progress, budget)


def metric_context(on_progress: OnProgress, *, fetch: bool = True, **settings: Any) -> MetricContext:
    """Return the context that metrics are built from.

    Raises:
        UnknownNameError: No metric has such an option.
    """
    known = [option.name for option in metric_options()]
    if strange := [name for name in settings if name not in known]:
        raise UnknownNameError("option of a metric", strange[0], known)
    return MetricContext(settings, fetch=fetch, on_progress=on_progress)


def _score(systems: Sequence[Replies], context: MetricContext, chosen: Sequence[Metric]) -> list[Scored]:
    scored = []
    for number, system in enumerate(systems):
        context.on_progress(Progress("Scoring", number, len(systems), "systems"))
        scored.append(score_all(system, chosen))
    context.on_progress(Progress("Scoring", len(systems), len(systems), "systems"))
    return scored


def _write(path: Path, scored: Scored, *, required: bool) -> str:
    """Write the scores; if the default folder is not writable, add a note instead of failing."""
    try:
        write_scores(path, scored)
    except DataError as error:
        if required:
            raise
        return f"the scores of {scored.name} are not kept: {error.with_hint}"
    return ""


def _keep_values(folder: Path, system: Replies, chosen: Sequence[Metric], context: MetricContext) -> str:
    """Keep the values of single replies; where that fails, a note: what needs them computes them again."""
    try:
        write_values(folder, system, chosen, context.options)
    except DataError as error:
        return f"the values of {system.name}'s single replies are not kept: {error.with_hint}"
    return ""


def _saved(systems: Sequence[Replies], places: Sequence[Path]) -> str:
    def is_saved(system: Replies, path: Path) -> bool:
        try:
            return read_scores(path).sha256 == system.sha256
        except DataError:
            return False

    return f"scores of {share(sum(map(is_saved, systems, places)), len(systems), 'system')} saved"


def _comparability(systems: Sequence[Replies]) -> str:
    if len({system.ids_sha256 for system in systems}) == 1:
        return ""
    counted = ", ".join(f"{system.name} {len(system):,}" for system in systems)
    return (
        f"the systems did not answer the same dialogues ({counted}): their scores are not of the same things, and "
        "metrics that change with the number of replies, such as Dist, cannot be compared (*); "
        "--common scores the dialogues that all of them answered"
    )
