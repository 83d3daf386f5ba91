"""`runs list`: the runs in a folder, how far they got, and a leaderboard of them by a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from localemp.errors import DataError, OptionError, RunError
from localemp.metrics.base import Score
from localemp.metrics.registry import metric
from localemp.metrics.replies import Replies, replies_of_run
from localemp.metrics.scoring import read_scores, scores_path
from localemp.reporting.comparing import Marks
from localemp.reporting.systems import System
from localemp.runs import run as runs
from localemp.runs.order import named_data
from localemp.utils.files import is_file, is_folder
from localemp.utils.paths import StrPath

DEFAULT = "runs"


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run of the list.

    Attributes:
        folder: Its folder.
        model: Name of its model, with its adapter.
        strategy: Name of its strategy.
        data: Its dialogues, as they were asked for; empty if that is not known.
        replies: Number of dialogues with a reply.
        failed: Number of dialogues with only an error.
        dialogues: Number of dialogues that were asked for; None if that is not known.
        started: When it was first started, in UTC; None if that is not known.
        damaged: Why the run cannot be read; empty if it can.
        score: The score that the list is sorted by; None without one.
        unscored: Why it has no value.
        mark: A letter of `RunList.notes` for a score that is not comparable with most of the others.
    """

    folder: Path
    model: str = ""
    strategy: str = ""
    data: str = ""
    replies: int = 0
    failed: int = 0
    dialogues: int | None = None
    started: datetime | None = None
    damaged: str = ""
    score: Score | None = None
    unscored: str = ""
    mark: str = ""

    @property
    def value(self) -> float | None:
        """The value of the score, in the metric's unit."""
        return None if self.score is None else self.score.value

    @property
    def share(self) -> float | None:
        """Which share of the dialogues has a reply, from 0 to 1; None if their number is not known."""
        return self.replies / self.dialogues if self.dialogues else None

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        told = ("model", "strategy", "data", "replies", "failed", "dialogues")
        return {
            "run": str(self.folder),
            **{name: getattr(self, name) for name in told},
            "started": self.started and self.started.isoformat(),
            "damaged": self.damaged,
            "score": self.score and self.score.as_dict(),
            "unscored": self.unscored,
        }


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs in a folder.

    Attributes:
        runs: By name; with a metric, the best first, then those without a value.
        by: The metric.
        higher_is_better: Its direction; None if neither is better, and the highest value is first.
        notes: How scores differ that are not comparable, with their letters.
    """

    runs: tuple[ListedRun, ...]
    by: str | None = None
    higher_is_better: bool | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the list as JSON values."""
        listed = [run.as_dict() for run in self.runs]
        return {
            "format": 1,
            "by": self.by,
            "higher_is_better": self.higher_is_better,
            "notes": list(self.notes),
            "runs": listed,
        }


def list_runs(parent: StrPath = DEFAULT, *, by: str | None = None) -> RunList:
    """List the runs in a folder; with a metric, sorted by the scores that `score` wrote into their folders.

        print([(run.folder, run.value) for run in list_runs("runs", by="B-2").runs])

    Args:
        parent: The folder with the runs.
        by: Name of a metric, such as "F_BERT". Nothing is computed: a run that is not scored says so.

    Raises:
        OptionError: There is no such folder.
        UnknownNameError: There is no such metric.
    """
    sorted_by = None if by is None else metric(by)
    if not is_folder(Path(parent)) and Path(parent) != Path(DEFAULT):
        raise OptionError(f"{parent} is not a folder", "give the folder with the runs")
    found = [_listed(folder, by) for folder in runs.list_runs(Path(parent))]
    if sorted_by is None:
        return RunList(tuple(run for run, _ in found))
    marks = Marks([_system(run, replies) for run, replies in found], [sorted_by.name])
    marked = [replace(run, mark=marks.of(_system(run, replies), sorted_by.name)) for run, replies in found]
    notes = tuple(f"{note.mark}: {note.text}" for note in marks.notes)
    sign = 1 if sorted_by.higher_is_better is False else -1
    best_first = sorted(marked, key=lambda run: (run.value is None, sign * (run.value or 0)))
    return RunList(tuple(best_first), sorted_by.name, sorted_by.higher_is_better, notes)


def _listed(folder: Path, by: str | None) -> tuple[ListedRun, Replies | None]:
    """Return a run of the list, and its replies if its score is wanted."""
    try:
        manifest = runs.read_manifest(folder)
        answered, failed = runs.count_lines(folder)
    except RunError as error:
        return ListedRun(folder, damaged=error.with_hint, unscored="damaged"), None
    settings, sessions = manifest["settings"], manifest["sessions"]
    asked = max((session.get("dialogues", 0) for session in sessions), default=0)
    listed = ListedRun(
        folder,
        runs.model_name(settings),
        str(settings.get("strategy", "")),
        _data(settings, sessions),
        answered,
        failed,
        max(asked, answered + failed) or None,
        _time(str(manifest["created"])),
    )
    return (listed, None) if by is None else _with_score(listed, by)


def _with_score(run: ListedRun, by: str) -> tuple[ListedRun, Replies | None]:
    if not is_file(scores_path(run.folder)):
        return replace(run, unscored="not scored"), None
    try:
        scored, replies = read_scores(scores_path(run.folder)), replies_of_run(run.folder)
    except (RunError, DataError) as error:
        return replace(run, unscored=error.with_hint), None
    if scored.sha256 != replies.sha256:
        return replace(run, unscored="scored when it had other replies"), replies
    score = scored.score(by)
    if score is None:
        return replace(run, unscored=f"scored without {by}"), replies
    return replace(run, score=score, unscored=score.reason if score.value is None else ""), replies


def _system(run: ListedRun, replies: Replies | None) -> System:
    scores = {} if run.score is None else {run.score.name: run.score}
    return System(str(run.folder), "", scores, replies=replies)


def _data(settings: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the data, and a split but "test"."""
    named, split = next(named_data(sessions), ""), str(settings.get("split", ""))
    return f"{named} ({split})" if named and split not in ("", "test") else named


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
