"""A table of each system's metrics by the speaker's emotion."""

from collections.abc import Sequence

from localemp.errors import OptionError
from localemp.metrics.groups import Group, by_emotion
from localemp.metrics.pairing import FEW_ITEMS
from localemp.metrics.registry import decimals
from localemp.reporting.differences import compared_metrics
from localemp.reporting.systems import System
from localemp.reporting.tables import NOT_AVAILABLE, Cell, Note, Row, Table, number

_SMALL = "s"


def emotion_table(name: str, groups: Sequence[Group], key: str = "emotions") -> Table:
    """Return a table with a row for each emotion.

    Args:
        name: What tables call the system.
        groups: See `localemp.metrics.groups.by_emotion`; at least one.
        key: The table's key.
    """
    columns = tuple(groups[0].values)
    rows = tuple(Row(group.emotion, (_count(group), *(_cell(group, column) for column in columns))) for group in groups)
    small = sum(group.is_small for group in groups)
    of = f"fewer than {FEW_ITEMS} replies, too few to compare by ({small} of {len(groups)} emotions)"
    notes = [
        *([Note(of, _SMALL)] if small else []),
        Note(
            "Each metric of the replies to speakers of one emotion: their mean, and for BLEU the score of all their "
            "texts together. Metrics that change with the number of replies, such as Dist, are left out. Nothing is "
            "tested here, and among many emotions some differ by chance.",
            defines=True,
        ),
    ]
    return Table(key, "emotions", f"By emotion: {name}", "Emotion", ("Replies", *columns), rows, tuple(notes))


def emotion_tables(systems: Sequence[System]) -> list[Table]:
    """Return a table for each run of a report; metrics with a model are those whose values `score` kept.

    Raises:
        OptionError: No dialogue has an emotion.
    """
    found = {
        system.name: by_emotion(system.replies, compared_metrics([system]))
        for system in systems
        if system.replies is not None
    }
    if not any(found.values()):
        raise OptionError(
            "--by emotion: no dialogue has an emotion", "omit it; docs/data.md has data sets with emotions"
        )
    tables = [(name, groups) for name, groups in found.items() if groups]
    return [
        emotion_table(name, groups, f"emotions-{number}" if number > 1 else "emotions")
        for number, (name, groups) in enumerate(tables, 1)
    ]


def _count(group: Group) -> Cell:
    return Cell(f"{group.items:,}", group.items, "replies that were scored", _SMALL if group.is_small else "")


def _cell(group: Group, column: str) -> Cell:
    value = group.values[column]
    if value is None:
        return Cell(NOT_AVAILABLE, about="the replies have too few words")
    return Cell(number(value, decimals(column)), value, f"{column} of the replies to {group.emotion} speakers")
