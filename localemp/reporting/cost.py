"""The length and the cost of replies: words, seconds and tokens, stage by stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from localemp.reporting.systems import System
from localemp.reporting.tables import NOT_AVAILABLE, Cell, Note, Row, Table, amount, not_available, number
from localemp.runs.run import thinking_tokens

SECONDS = (
    "Seconds are the time that a call waited for its answer while other dialogues were in flight; they are comparable "
    "only between runs on the same machine with the same concurrency."
)
QUANTITIES = (
    ("seconds", "Seconds", "seconds", 2),
    ("prompt_tokens", "Prompt tokens", "tokens", 0),
    ("completion_tokens", "Tokens written", "tokens", 1),
    ("thinking_tokens", "Of them thinking", "tokens", 1),
)


TRUNCATED = "Truncated %"
"""The column of the share of replies that the limit of tokens ended."""
DOLLARS = "$ / 1,000"
"""The column of what 1,000 replies cost in US dollars."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The mean cost of one reply of a run.

    Attributes:
        words: The number of words of every reply, by whitespace.
        calls: Model calls for one reply.
        stages: Stage -> quantity of `QUANTITIES` -> mean for one reply; None if a call did not report it.
    """

    words: tuple[int, ...]
    calls: float
    stages: dict[str, dict[str, float | None]]

    def total(self, quantity: str) -> float | None:
        """Return the sum over all stages; None if one did not report it."""
        parts = [each[quantity] for each in self.stages.values()]
        known = [part for part in parts if part is not None]
        return sum(known) if parts and len(known) == len(parts) else None


def effort_of(system: System) -> Effort:
    """Return the mean cost of a run's replies."""
    answered = system.answered
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in answered:
        for stage in record["stages"]:
            stages.setdefault(stage["name"], []).append(stage)
    means = {
        name: {key: _per_reply([_value(stage, key) for stage in calls], len(answered)) for key, *_ in QUANTITIES}
        for name, calls in stages.items()
    }
    total = sum(len(calls) for calls in stages.values())
    return Effort(words_of(record["reply"] for record in answered), total / max(len(answered), 1), means)


def dollars_for_thousand(system: System) -> float | None:
    """Return what 1,000 replies of a run cost in US dollars, with those that failed; None if a price is unknown."""
    answered = system.answered
    costs = [stage.get("cost") for record in answered for stage in record["stages"]]
    known = [cost for cost in costs if cost is not None]
    if not answered or len(known) < len(costs):
        return None
    return 1000 * (sum(known) / len(answered) + system.lost) or None


def quantities_of(efforts: Sequence[Effort]) -> list[tuple[str, str, str, int]]:
    """Return the entries of `QUANTITIES` to show: thinking only if a run thought."""
    thought = any(effort.total("thinking_tokens") != 0 for effort in efforts if effort.stages)
    return [each for each in QUANTITIES if each[0] != "thinking_tokens" or thought]


def words_of(texts: Iterable[str]) -> tuple[int, ...]:
    """Return the number of words of each text, by whitespace."""
    return tuple(len(text.split()) for text in texts)


def effort_table(systems: Sequence[System], efforts: Sequence[Effort]) -> Table:
    """Return length and cost of a reply, one row for each run."""
    everyone = [system.name for system in systems]
    shown = quantities_of(efforts)
    dollars = [dollars_for_thousand(system) for system in systems]
    priced = any(each is not None for each in dollars)
    reason = "the engine did not report it for every call"
    truncated = any(system.truncation for system in systems)
    reasons: dict[str, dict[str, list[str]]] = {}
    rows = []
    for system, effort, price in zip(systems, efforts, dollars, strict=True):
        words = fmean(effort.words)
        cells = [Cell(number(words, 1), words, "mean, words by whitespace"), Cell(f"{effort.calls:.2g}", effort.calls)]
        for key, title, _, decimals in shown:
            if (value := effort.total(key)) is None:
                reasons.setdefault(reason, {}).setdefault(title, []).append(system.name)
                cells.append(Cell(NOT_AVAILABLE, about=reason))
            else:
                cells.append(Cell(amount(value, decimals), value, "mean, all stages together"))
        if priced and price is None:
            unpriced = "no price of the model is known"
            reasons.setdefault(unpriced, {}).setdefault(DOLLARS, []).append(system.name)
            cells.append(Cell(NOT_AVAILABLE, about=unpriced))
        elif price is not None:
            cells.append(Cell(number(price, 4), price, "US dollars by list price, replies that failed included"))
        cells += [_truncated(system)] if truncated else []
        rows.append(Row(system.name, tuple(cells), system.about, warning=system.warning))
    more = [*([DOLLARS] if priced else []), *([TRUNCATED] if truncated else [])]
    columns = ("Words", "Calls", *(title for _, title, *_ in shown), *more)
    cost = f" {DOLLARS}: US dollars for 1,000 replies by list price; what was paid for replies that failed is in it."
    notes = (*not_available(reasons, everyone), Note(f"Words by whitespace. {SECONDS}{cost if priced else ''}"))
    return Table("effort", "effort", "Means for one reply, all its stages together", "Run", columns, tuple(rows), notes)


def _truncated(system: System) -> Cell:
    assert system.replies is not None, "the table is of runs"
    found = system.replies.truncation
    if found.share is None:
        return Cell(NOT_AVAILABLE, about="the run does not say why its replies ended")
    return Cell(number(100 * found.share, 1), 100 * found.share, found.line or "no reply was truncated")


def _value(stage: Mapping[str, Any], key: str) -> float | None:
    return thinking_tokens(stage) if key == "thinking_tokens" else stage.get(key)


def _per_reply(values: Sequence[float | None], replies: int) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / replies if len(known) == len(values) and replies else None
