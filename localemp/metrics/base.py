"""Three ideas: a `Score` never stands without its `Signature`; a `Metric` turns replies into one table of `Statistics`.

The table has a row for every item of every system, and a value can be computed from any choice of rows: those of one
system (its score), the same with repetitions (bootstrap), or a mixture of two systems (approximate randomisation).
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


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that is needed to repeat a score.

    Attributes:
        metric: Such as "dist-2".
        settings: Tokenisation, case, order, smoothing, model, library versions, ... in a fixed order.
        items: How many items.
        items_sha256: Of their ids; two scores with different ones are of different items.
    """

    metric: str
    settings: tuple[tuple[str, Setting], ...]
    items: int
    items_sha256: str

    @classmethod
    def of(cls, metric: str, replies: Replies, settings: Mapping[str, Setting]) -> "Signature":
        """The signature of a metric with these settings on these replies."""
        return cls(metric, tuple(settings.items()), len(replies), replies.ids_sha256)

    def __str__(self) -> str:
        settings = "".join(f"|{name}:{value}" for name, value in self.settings)
        return f"{self.metric}{settings}|items:{self.items}|ids:{self.items_sha256[:8]}"

    def differences(self, other: "Signature") -> dict[str, tuple[Any, Any]]:
        """What the two do not have in common, by name; empty where their scores can be compared."""
        ours, theirs = self.as_dict(), other.as_dict()
        names = [*ours, *(name for name in theirs if name not in ours)]
        return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"metric": self.metric, **dict(self.settings), "items": self.items, "items_sha256": self.items_sha256}


@dataclass(frozen=True, slots=True)
class Score:
    """One number and how it was made.

    Attributes:
        name: As tables have it: "Dist-1", "B-2", "F_BERT", "Acc".
        value: In the unit of the paper's tables; None where there is none.
        signature: How it was made.
        reason: Why there is no value.
        hidden: Whether it is only in the JSON and with --verbose.
    """

    name: str
    value: float | None
    signature: Signature
    reason: str = ""
    hidden: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {"reason": self.reason} if self.reason else {}
        return {"name": self.name, "value": self.value, **told, "signature": self.signature.as_dict()}


class Statistics(ABC):
    """What every item of every system contributes to a metric: row `s * items + i` is item i of system s."""

    @abstractmethod
    def value(self, rows: Rows) -> float:
        """The metric's value on a choice of rows, repetitions included; NaN where it has none."""

    def each(self, rows: Rows) -> NDArray[np.float64] | None:
        """The rows' own values, for metrics of single replies; None where only a whole set has one."""
        return None


class Metric(ABC):
    """A metric: its settings, and how replies become statistics.

    Attributes:
        name: As tables have it.
        hidden: Whether it is only shown when asked for.
        decimals: How many of them tables show.
        bounds: The least and the greatest value.
        higher_is_better: None where neither is.
    """

    name: str
    hidden: bool = False
    decimals: int = 2
    bounds: tuple[float, float] = (0.0, 100.0)
    higher_is_better: bool | None = True

    @abstractmethod
    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        """Of systems that answered the same items in the same order."""

    @abstractmethod
    def settings(self) -> Mapping[str, Setting]:
        """What the signature has besides the metric's name and the items."""

    def missing(self, replies: Replies) -> str:
        """Why these replies can have no value ("no reference replies"); empty where they can."""
        return ""

    def score(self, replies: Replies) -> Score:
        """The value on all replies of one system; NaN and what cannot be had become "n/a" with a reason."""
        signature = Signature.of(self.name.lower(), replies, self.settings())
        reason = self.missing(replies) or ("no replies" if not len(replies) else "")
        if reason:
            return Score(self.name, None, signature, reason, self.hidden)
        value = self.statistics([replies]).value(np.arange(len(replies)))
        if not np.isfinite(value):
            return Score(self.name, None, signature, "the replies have too few words to count", self.hidden)
        return Score(self.name, float(value), signature, hidden=self.hidden)


def check_same_items(systems: Sequence[Replies]) -> None:
    """Raise OptionError where systems did not answer the same items in the same order."""
    first, *others = systems
    for other in others:
        if other.ids != first.ids:
            raise OptionError(f"{first.name} and {other.name} are not of the same items", "compare on common items")
