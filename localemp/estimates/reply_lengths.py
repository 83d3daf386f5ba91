"""How long replies will be: as in finished runs of the same model, else a stated share of the longest possible one."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

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


class ReplyLengths:
    """Finds lengths of completions in finished runs of the same model with the same `max_tokens`.

    The nearest runs count first: the run itself, then those of the same strategy, then any that has the stage.

    Args:
        batch: The run to estimate. Its folder's neighbours and `runs/` are searched.
    """

    def __init__(self, batch: Batch) -> None:
        self._settings, self._folder = batch.settings, batch.folder
        self._near = self._runs()
        self._read: dict[Path, dict[str, list[int]]] = {}

    def of(self, stage: str, max_tokens: int, stages: int = 1) -> Length:
        """Return the assumed length of a stage's completions.

        Args:
            stage: Its name.
            max_tokens: The longest possible one.
            stages: Stages of the strategy.
        """
        for folder in self._near:
            lengths = self._lengths(folder).get(stage, [])
            if len(lengths) >= _ENOUGH:
                where = "this run" if folder == self._folder else str(folder)
                how = f"the mean of {count(len(lengths), 'completion')} in {where}"
                return Length(min(fmean(lengths), max_tokens), how)
        for path, result in results_in(RESULTS):
            if self._is_like(result.settings) and not result.dummy:
                for point in result.parts.get("throughput", []):
                    if point.labels.get("strategy") == self._settings["strategy"] and (
                        mean := point.median("tokens_per_reply")
                    ):
                        return Length(min(mean / stages, max_tokens), f"the mean in {path} (`bench {result.kind}`)")
        return Length(
            SHARE * max_tokens, f"{SHARE:.0%} of max_tokens, as no finished run of this model with it is here"
        )

    def _runs(self) -> list[Path]:
        """Return runs of the same model and `max_tokens`, the nearest first."""
        found: list[tuple[int, float, Path]] = []
        folders = {self._folder: None}
        for parent in (self._folder.parent, Path("runs")):
            folders |= dict.fromkeys(islice(list_runs(parent), _RUNS))
        for folder in folders:
            try:
                settings = read_manifest(folder)["settings"]
                changed = (folder / RESPONSES).stat().st_mtime
            except (RunError, OSError):
                continue  # not a run, or a damaged one
            if folder == self._folder or self._is_like(settings):
                far = 0 if folder == self._folder else 1 + (not self._same(settings, "strategy", "variant"))
                found.append((far, -changed, folder))
        return [folder for _, _, folder in sorted(found)]

    def _is_like(self, settings: Mapping[str, Any]) -> bool:
        """Whether something was made by the same model with the same `max_tokens`."""
        same = self._same(settings, "model", "weights_sha256", "served_model")
        return same and _max_tokens(settings) == _max_tokens(self._settings)

    def _same(self, settings: Mapping[str, Any], *names: str) -> bool:
        return all(settings.get(name) == self._settings.get(name) for name in names)

    def _lengths(self, folder: Path) -> dict[str, list[int]]:
        if folder not in self._read:
            lengths = self._read[folder] = {}
            try:
                for _, record in islice(read_lines(folder), _LINES):
                    for stage in record.get("stages", ()):
                        if stage["completion_tokens"] is not None:
                            lengths.setdefault(stage["name"], []).append(stage["completion_tokens"])
            except RunError:
                pass  # a damaged line ends it
        return self._read[folder]


def _max_tokens(settings: Mapping[str, Any]) -> Any:
    sampling = settings.get("sampling")
    return sampling.get("max_tokens") if isinstance(sampling, Mapping) else None
