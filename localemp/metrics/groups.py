"""Metrics of the replies to one emotion at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.errors import LocalempError, UnknownNameError
from localemp.metrics.base import Metric, Rows
from localemp.metrics.pairing import FEW_ITEMS
from localemp.metrics.replies import Replies

UNKNOWN = "(none)"
BY = ("emotion",)


@dataclass(frozen=True, slots=True)
class Group:
    """The replies to speakers of one emotion.

    Attributes:
        emotion: The emotion; `UNKNOWN` for dialogues without one.
        items: Number of replies.
        values: By metric, in its unit; None where these few replies have no value.
    """

    emotion: str
    items: int
    values: Mapping[str, float | None]

    @property
    def is_small(self) -> bool:
        """Whether it has fewer than 30 replies."""
        return self.items < FEW_ITEMS

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {"emotion": self.emotion, "items": self.items, "small": self.is_small, "values": dict(self.values)}


def by_emotion(replies: Replies, metrics: Iterable[Metric]) -> tuple[Group, ...]:
    """Return each metric of the replies to one emotion at a time, by the emotions' names; nothing if none is known.

    Metrics that these replies have no value of are left out, and those that change with the number of replies, such as
    Distinct-n: emotions do not have equally many.

    Args:
        replies: The replies of one system.
        metrics: The metrics; secondary ones are left out.
    """
    rows: dict[str, list[int]] = {}
    for place, item in enumerate(replies.items):
        rows.setdefault(item.emotion or UNKNOWN, []).append(place)
    if not rows.keys() - {UNKNOWN}:
        return ()
    columns = {each.name: _values(each, replies, rows) for each in metrics if not each.hidden}
    columns = {name: values for name, values in columns.items() if values}
    emotions = sorted(rows, key=lambda emotion: (emotion == UNKNOWN, emotion))
    return tuple(
        Group(emotion, len(rows[emotion]), {name: values[emotion] for name, values in columns.items()})
        for emotion in emotions
    )


def check_by(by: str | None) -> None:
    """Raise UnknownNameError if replies cannot be grouped by this."""
    if by is not None and by not in BY:
        raise UnknownNameError("grouping", by, BY)


def _values(metric: Metric, replies: Replies, rows: Mapping[str, list[int]]) -> dict[str, float | None]:
    if metric.depends_on_number or metric.missing(replies):
        return {}
    try:
        statistics = metric.statistics([replies])
    except LocalempError:  # such as a missing model: the score has the reason
        return {}
    found = {emotion: statistics.value(_selected(places)) for emotion, places in rows.items()}
    return {emotion: float(value) if np.isfinite(value) else None for emotion, value in found.items()}


def _selected(places: list[int]) -> Rows:
    return np.array(places, np.intp)
