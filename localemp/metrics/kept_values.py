"""The values of single replies by metrics that need a model, kept beside a run's scores.

A report, a comparison of rows and a table of replies then need no model: `KeptMetric` answers from these values as the
metric itself would.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.errors import DataError, LocalempError
from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics, check_same_items
from localemp.metrics.registry import MetricContext, metric, metric_entries
from localemp.metrics.replies import Replies
from localemp.metrics.scoring import read_scores, scores_path
from localemp.utils.files import is_file, write_errors, write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.option import unique

VALUES = "scores-of-replies.json"

Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class KeptValues:
    """What is kept of one run.

    Attributes:
        options: Options of metrics that it was scored with, as they were asked for.
        settings: Metric -> its settings, as its signature has them.
        values: Metric -> id of a dialogue -> value of its reply.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class KeptMetric(Metric):
    """A metric of single replies whose values were computed before.

    Args:
        name: The metric's name.
        systems: What is kept of each system, by its name in tables.
    """

    def __init__(self, name: str, systems: Mapping[str, KeptValues]) -> None:
        known = metric(name)
        self.name, self.hidden, self.decimals = name, known.hidden, known.decimals
        self.group, self.bounds, self.higher_is_better = known.group, known.bounds, known.higher_is_better
        self.depends_on_number = known.depends_on_number
        self._of = {system: kept for system, kept in systems.items() if name in kept.values}

    def settings(self) -> Mapping[str, Setting]:
        """Return the settings of the first system that has values."""
        return next((kept.settings[self.name] for kept in self._of.values()), {})

    def missing(self, replies: Replies) -> str:
        """Return why these replies have no value: not scored, or in another way than the first system."""
        if (kept := self._of.get(replies.name)) is None:
            return f"the replies have no {self.name}; `localemp score` adds it"
        if kept.settings[self.name] != self.settings():
            return f"{self.name} was computed in another way; `localemp score` computes it again"
        return "" if set(replies.ids) <= kept.values[self.name].keys() else f"some replies have no {self.name}"

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the kept value of every reply."""
        check_same_items(systems)
        found = [self._of[system.name].values[self.name][name] for system in systems for name in system.ids]
        return MeanOfReplies(np.array(found, np.float64))


def write_values(folder: Path, replies: Replies, metrics: Iterable[Metric], options: Mapping[str, Any]) -> None:
    """Keep the values of a run's replies by the metrics that need a model and have one for every reply.

    Args:
        folder: The run.
        replies: All of its replies, just scored, so that the metrics have their values at hand.
        metrics: The metrics; those that need no model are left out.
        options: Options of metrics, as they were asked for.

    Raises:
        DataError: The file cannot be written.
    """
    told: list[dict[str, Any]] = []
    known = metric_entries()
    for each in metrics:
        if each.name in known and known[each.name].needs_model and not each.missing(replies):
            try:
                values = each.statistics([replies]).each(np.arange(len(replies)))
            except LocalempError:  # such as a missing model: the score has the reason
                continue
            if values is not None and np.isfinite(values).all():
                told.append({"name": each.name, "settings": dict(each.settings()), "values": values.tolist()})
    if not told:  # without a model: what an earlier call kept of the same replies still holds
        return
    names = [each["name"] for each in told]
    of_these = {option.name for name in names for option in known[name].options}
    used = {name: value for name, value in options.items() if name in of_these}
    if earlier := read_values(folder, replies):  # of metrics that were not asked for now
        for name in earlier.values.keys() - set(names):
            of_replies = [earlier.values[name][each] for each in replies.ids]
            told.append({"name": name, "settings": dict(earlier.settings[name]), "values": of_replies})
        used = {name: value for name, value in earlier.options.items() if name not in of_these} | used
    kept = {"format": 1, "replies_sha256": replies.sha256, "options": used, "ids": list(replies.ids)}
    with write_errors(partial(DataError, folder / VALUES), "choose another run"):
        write_json(folder / VALUES, kept | {"metrics": told}, indent=0)


def read_values(folder: Path, replies: Replies) -> KeptValues | None:
    """Return what is kept of a run; None if there is nothing that belongs to exactly these replies."""
    path = folder / VALUES
    if not is_file(path):
        return None
    try:
        kept = _Kept.model_validate(load_json(path, storable=True))
    except (OSError, JSONError, ValidationError):  # it can be made again
        return None
    whole = all(len(each.values) == len(kept.ids) for each in kept.metrics)
    if kept.replies_sha256 != replies.sha256 or not whole:
        return None
    return KeptValues(
        kept.options,
        {each.name: each.settings for each in kept.metrics},
        {
            each.name: dict(zip(kept.ids, each.values, strict=True))
            for each in kept.metrics
            if each.name in metric_entries()
        },
    )


def is_scored(
    folder: Path,
    replies: Replies,
    options: Mapping[str, Any],
    without: Collection[str] = (),
    also: Collection[str] = (),
) -> bool:
    """Return whether a run has all scores of its current replies, made with these options of metrics.

    Args:
        folder: The run.
        replies: All of its replies.
        options: Options of metrics; what is not in it has its default.
        without: Metrics that are not wanted.
        also: Metrics on request that are wanted.
    """
    try:
        scored = read_scores(scores_path(folder))
    except DataError:
        return False
    known = metric_entries()
    wanted = [name for name, entry in known.items() if name not in without and not entry.on_request]
    if any((score := scored.score(name)) is None or score.value is None for name in also):
        return False
    if scored.sha256 != replies.sha256 or any(scored.score(name) is None for name in wanted):
        return False
    with_model = [name for name in wanted if known[name].needs_model]
    kept = read_values(folder, replies) or KeptValues()
    context = MetricContext(options, fetch=False)
    # What cannot be computed here, such as METEOR without WordNet, is not waited for.
    if any(name not in kept.values and not metric(name, context).missing(replies) for name in with_model):
        return False
    used = unique(option for name in with_model if name in kept.values for option in known[name].options)
    return all(options.get(each.name, each.default) == kept.options.get(each.name, each.default) for each in used)


class _KeptMetric(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    settings: dict[str, str | int | Finite | bool | None]
    values: list[Finite]


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True)

    format: Literal[1]
    replies_sha256: str
    options: dict[str, Any]
    ids: list[str]
    metrics: list[_KeptMetric]
