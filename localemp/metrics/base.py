"""The interface of a metric. Every `Score` has a `Signature`; a `Metric` turns replies into a table of `Statistics`.

The table has one row for every item of every system. A value can be computed from any selection of rows: those of one
system (its score), the same rows with repetitions (bootstrap), or rows of two systems (approximate randomisation).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.errors import OptionError
from localemp.metrics.replies import Replies

Rows = NDArray[np.intp]
Setting = str | int | float | bool | None

PAPER = "paper"  # the group of the paper's own metrics


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that is needed to repeat a score.

    Attributes:
        metric: The metric's name in lower case, such as "dist-2".
        settings: Tokenisation, case, order, smoothing, model, library versions, ... in a fixed order.
        items: The number of items.
        items_sha256: A hash of their ids; scores with different hashes are scores on different items.
    """

    metric: str
    settings: tuple[tuple[str, Setting], ...]
    items: int
    items_sha256: str

    @classmethod
    def of(cls, metric: str, replies: Replies, settings: Mapping[str, Setting]) -> "Signature":
        """Return the signature of a metric with these settings on these replies."""
        return cls(metric, tuple(settings.items()), len(replies), replies.ids_sha256)

    def __str__(self) -> str:
        settings = "".join(f"|{name}:{value}" for name, value in self.settings)
        return f"{self.metric}{settings}|items:{self.items}|ids:{self.items_sha256[:8]}"

    def differences(self, other: "Signature") -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ, by name; empty if the scores are comparable."""
        ours, theirs = self.as_dict(), other.as_dict()
        names = [*ours, *(name for name in theirs if name not in ours)]
        return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {"metric": self.metric, **dict(self.settings), "items": self.items, "items_sha256": self.items_sha256}


@dataclass(frozen=True, slots=True)
class Score:
    """A value of a metric and how it was computed.

    Attributes:
        name: The name in tables: "Dist-1", "B-2", "F_BERT", "Acc".
        value: In the unit of the paper's tables; None if there is no value.
        signature: How it was computed.
        reason: Why there is no value.
        hidden: Whether it is shown only in the JSON and with --verbose.
    """

    name: str
    value: float | None
    signature: Signature
    reason: str = ""
    hidden: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        told = {"reason": self.reason} if self.reason else {}
        return {"name": self.name, "value": self.value, **told, "signature": self.signature.as_dict()}


class Statistics(ABC):
    """The contribution of every item of every system to a metric: row `s * items + i` is item i of system s."""

    @abstractmethod
    def value(self, rows: Rows) -> float:
        """Return the metric's value on a selection of rows, which may repeat; NaN if it has none."""

    def each(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return the value of each row; None for a metric that only a whole set has."""
        return None


class MeanOfReplies(Statistics):
    """The mean of values of single replies.

    Args:
        values: One for each row.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values

    def value(self, rows: Rows) -> float:
        """Return the mean; NaN of no row."""
        return float(self._values[rows].mean()) if len(rows) else float("nan")

    def each(self, rows: Rows) -> NDArray[np.float64]:
        """Return the values."""
        chosen: NDArray[np.float64] = self._values[rows]
        return chosen


class Metric(ABC):
    """A metric: its settings, and how it turns replies into statistics.

    Attributes:
        name: The name in tables.
        group: Which of the tables it belongs to, a key of `registry.GROUPS`.
        hidden: Whether it is only shown when asked for.
        decimals: The number of decimals in tables.
        bounds: The lowest and the highest possible value.
        higher_is_better: None if neither direction is better.
        depends_on_number: Whether the value changes with the number of replies, as Distinct-n falls with it.
    """

    name: str
    group: str = PAPER
    hidden: bool = False
    decimals: int = 2
    bounds: tuple[float, float] = (0.0, 100.0)
    higher_is_better: bool | None = True
    depends_on_number: bool = False

    @abstractmethod
    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Return the statistics of systems that answered the same items in the same order."""

    @abstractmethod
    def settings(self) -> Mapping[str, Setting]:
        """Return what the signature holds besides the metric's name and the items."""

    def settings_of(self, replies: Replies) -> Mapping[str, Setting]:
        """Return the settings for one system, for a metric whose settings are not the same for all."""
        return self.settings()

    def missing(self, replies: Replies) -> str:
        """Return why these replies have no value ("no reference replies"); empty if they have one."""
        return ""

    def score(self, replies: Replies) -> Score:
        """Score all replies of one system; a value that is NaN or missing becomes "n/a" with a reason."""
        signature = Signature.of(self.name.lower(), replies, self.settings_of(replies))
        reason = self.missing(replies) if len(replies) else "no replies"
        if reason:
            return Score(self.name, None, signature, reason, self.hidden)
        value = self.statistics([replies]).value(np.arange(len(replies)))
        if not np.isfinite(value):
            return Score(self.name, None, signature, "the replies have too few words", self.hidden)
        return Score(self.name, float(value), signature, hidden=self.hidden)


def check_same_items(systems: Sequence[Replies]) -> None:
    """Raise OptionError if the systems did not answer the same items in the same order."""
    first, *others = systems
    for other in others:
        if other.ids != first.ids:
            raise OptionError(f"{first.name} and {other.name} do not answer the same items", "compare on common items")
