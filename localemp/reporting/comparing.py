"""Mark the scores of a column that are not comparable with the others, and say why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase

from localemp.metrics.base import Signature
from localemp.metrics.registry import depends_on_number
from localemp.reporting.systems import System
from localemp.reporting.tables import Note, listed

NOT_COMPARABLE = "Metrics of diversity change with the number of replies, so these are not comparable"


class Marks:
    """Letters for scores that were computed in another way, or on other dialogues, than most of their column.

    Args:
        systems: All rows.
        columns: Names of scores.
    """

    def __init__(self, systems: Sequence[System], columns: Sequence[str]) -> None:
        self._of: dict[tuple[str, str], str] = {}
        told: dict[str, str] = {}
        about: dict[str, dict[str, list[str]]] = {}
        for column in columns:
            for name, text in differing(systems, column).items():
                mark = told.setdefault(text, _letter(len(told)))
                self._of[name, column] = mark
                about.setdefault(mark, {}).setdefault(name, []).append(column)
        self.notes = [_note(mark, text, about[mark]) for text, mark in told.items()]

    def of(self, system: System, column: str) -> str:
        """Return the letter of one score; empty if it is comparable with most others."""
        return self._of.get((system.name, column), "")


def differing(systems: Sequence[System], column: str) -> dict[str, str]:
    """Return, by system, how its score in a column differs from most others; systems that agree are left out."""
    made = {system.name: _signature(system, column) for system in systems}
    signatures = {name: signature for name, signature in made.items() if signature is not None}
    if len(signatures) < 2:
        return {}
    usual = Counter(signatures.values()).most_common(1)[0][0]
    with_it = next(name for name, signature in signatures.items() if signature == usual)
    return {
        name: _in_words(signature.differences(usual), with_it)
        for name, signature in signatures.items()
        if signature != usual
    }


def _signature(system: System, column: str) -> Signature | None:
    score = system.scores.get(column)
    if score is None or score.value is None:
        return None
    return replace(score.signature, items_sha256=system.items_sha256 or score.signature.items_sha256)


def _in_words(differences: Mapping[str, tuple[object, object]], other: str) -> str:
    told = []
    if "items" in differences:
        ours, theirs = differences["items"]
        told.append(f"on {ours:,} dialogues, where {other} has {theirs:,}")
    elif "items_sha256" in differences:
        told.append(f"on other dialogues than {other}")
    told += [
        f"{name}: {_shown(ours)}, where {other} has {_shown(theirs)}"
        for name, (ours, theirs) in differences.items()
        if name not in ("items", "items_sha256")
    ]
    return "; ".join(told)


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


def _note(mark: str, text: str, about: Mapping[str, Sequence[str]]) -> Note:
    rows: dict[str, list[str]] = {}
    for name, columns in about.items():
        rows.setdefault(listed(columns), []).append(name)
    where = "; ".join(f"{listed(names)}: {columns}" for columns, names in rows.items())
    numbered = any(depends_on_number(column) for columns in about.values() for column in columns)
    warning = f". {NOT_COMPARABLE} (--common scores all runs on the dialogues they share)"
    return Note(f"{text} ({where}){warning if numbered and text.startswith('on ') else ''}", mark)


def _letter(number: int) -> str:
    return ascii_lowercase[number % 26] * (number // 26 + 1)
