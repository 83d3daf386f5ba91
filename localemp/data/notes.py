"""Counts the anomalies of a file, and where they are."""

from collections.abc import Iterator

_NAMED = 5  # places that are listed; all are counted


class Notes:
    """The anomalies of one file, by kind.

    Args:
        unit: What the numbers count, in the singular: "line", "item" or "row".
    """

    def __init__(self, unit: str = "line") -> None:
        self.unit = unit
        self._places: dict[str, list[int]] = {}
        self._counts: dict[str, int] = {}

    def add(self, what: str, number: int) -> None:
        """Count an anomaly.

        Args:
            what: Its kind, after a number: "utterances are blank".
            number: Line, item or row, from 1.
        """
        self._counts[what] = self._counts.get(what, 0) + 1
        places = self._places.setdefault(what, [])
        if len(places) <= _NAMED:
            places.append(number)

    def __iter__(self) -> Iterator[str]:
        """Yield one line for each kind: its count, and the first places."""
        for what, places in self._places.items():
            named = ", ".join(map(str, places[:_NAMED])) + (", ..." if len(places) > _NAMED else "")
            unit = self.unit if len(places) == 1 else f"{self.unit}s"
            yield f"{self._counts[what]:,} {what} ({unit} {named})"
