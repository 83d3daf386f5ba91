"""How long replies will be: as in finished runs of the same model, else a stated share of the longest possible one."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from localemp.bench.result import Result
from localemp.errors import RunError
from localemp.estimates.bench_results import RESULTS, results_in
from localemp.pipeline.batch import Batch
from localemp.runs.run import RESPONSES, list_runs, read_lines, read_manifest
from localemp.utils.formatting import count

# Without any finished run: models say more than people, and seldom all that they may.
SHARE = 0.5
_ENOUGH = 8
_LINES, _RUNS = 512, 200


@dataclass(frozen=True, slots=True)
class Length:
    """The assumed length of a stage's completions.

    Attributes:
        tokens: Their mean, in tokens.
        how: Where it comes from.
    """

    tokens: float
    how: str


class LengthSources:
    """Where lengths of completions are recorded: runs and results of benchmarks, each of which is read once."""

    def __init__(self) -> None:
        self._folders: dict[Path, list[Path]] = {}
        self._settings: dict[Path, tuple[Mapping[str, Any], float] | None] = {}
        self._lengths: dict[Path, dict[str, list[int]]] = {}

    def runs_in(self, parent: Path) -> list[Path]:
        """Return the runs in a folder."""
        if parent not in self._folders:
            self._folders[parent] = list(islice(list_runs(parent), _RUNS))
        return self._folders[parent]

    def settings_of(self, run: Path) -> tuple[Mapping[str, Any], float] | None:
        """Return the settings of a run, and when its last reply was written; None if it is not a run, or damaged."""
        if run not in self._settings:
            try:
                self._settings[run] = read_manifest(run)["settings"], (run / RESPONSES).stat().st_mtime
            except (RunError, OSError):
                self._settings[run] = None
        return self._settings[run]

    def lengths_of(self, run: Path) -> dict[str, list[int]]:
        """Return the lengths of a run's completions, by stage, up to a damaged line."""
        if run not in self._lengths:
            lengths = self._lengths[run] = {}
            with suppress(RunError):
                for _, record in islice(read_lines(run), _LINES):
                    for stage in record.get("stages", ()):
                        if stage["completion_tokens"] is not None:
                            lengths.setdefault(stage["name"], []).append(stage["completion_tokens"])
        return self._lengths[run]

    @cached_property
    def results(self) -> list[tuple[Path, Result]]:
        """The results of benchmarks, the newest first."""
        return list(results_in(RESULTS))


class ReplyLengths:
    """Finds lengths of completions in finished runs of the same model with the same `max_tokens`.

    The nearest runs count first: the run itself, then those of the same strategy, then any that has the stage, then all
    of them together.

    Args:
        batch: The run to estimate. Its folder's neighbours and `runs/` are searched.
        sources: Runs and results, shared by the rows of an experiment.
    """

    def __init__(self, batch: Batch, sources: LengthSources) -> None:
        self._settings, self._folder, self._sources = batch.settings, batch.folder, sources
        self._near = self._runs()

    def of(self, stage: str, max_tokens: int, calls: int = 1, label: int | None = None) -> Length:
        """Return the assumed length of a stage's completions.

        Args:
            stage: Its name.
            max_tokens: The longest possible one.
            calls: Calls of the strategy for each dialogue.
            label: The tokens of the longest label if the answer is one of a list.
        """
        for folder in self._near:
            lengths = self._sources.lengths_of(folder).get(stage, [])
            if len(lengths) >= _ENOUGH:
                where = "this run" if folder == self._folder else str(folder)
                how = f"the mean of {count(len(lengths), 'completion')} in {where}"
                return Length(min(fmean(lengths), max_tokens), how)
        few = [found for folder in self._near if (found := self._sources.lengths_of(folder).get(stage))]
        pooled = [length for found in few for length in found]
        if len(pooled) >= _ENOUGH:
            how = f"the mean of {count(len(pooled), 'completion')} in {count(len(few), 'run')} with few each"
            return Length(min(fmean(pooled), max_tokens), how)
        if label is not None:
            return Length(min(label, max_tokens), "the longest label")
        for path, result in self._sources.results:
            if self._is_like(result.settings) and not result.dummy:
                for point in result.parts.get("throughput", []):
                    if point.labels.get("strategy") == self._settings["strategy"] and (
                        mean := point.median("tokens_per_reply")
                    ):
                        return Length(min(mean / calls, max_tokens), f"the mean in {path} (`bench {result.kind}`)")
        why = f"as runs of this model with it have fewer than {_ENOUGH} completions here"
        return Length(SHARE * max_tokens, f"{SHARE:.0%} of max_tokens, {why}")

    def _runs(self) -> list[Path]:
        """Return runs of the same model and `max_tokens`, the nearest first."""
        found: list[tuple[int, float, Path]] = []
        folders = {self._folder: None}
        for parent in (self._folder.parent, Path("runs")):
            folders |= dict.fromkeys(self._sources.runs_in(parent))
        for folder in folders:
            if (known := self._sources.settings_of(folder)) is None:
                continue
            settings, changed = known
            if folder == self._folder or self._is_like(settings):
                far = 0 if folder == self._folder else 1 + (not self._same(settings, "strategy", "variant"))
                found.append((far, -changed, folder))
        return [folder for _, _, folder in sorted(found)]

    def _is_like(self, settings: Mapping[str, Any]) -> bool:
        """Whether something was made by the same model with the same `max_tokens`."""
        same = self._same(settings, "model", "weights_sha256", "served_model", "adapter_sha256")
        return same and _limits(settings) == _limits(self._settings)

    def _same(self, settings: Mapping[str, Any], *names: str) -> bool:
        return all(settings.get(name) == self._settings.get(name) for name in names)


def _limits(settings: Mapping[str, Any]) -> Any:
    sampling = settings.get("sampling")
    names = ("max_tokens", "thinking_budget", "min_tokens", "ignore_eos")
    return [sampling.get(name) for name in names] if isinstance(sampling, Mapping) else None
