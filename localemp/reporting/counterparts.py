"""The paper's rows that correspond to ours, and the differences between the two."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localemp.metrics.base import Score
from localemp.metrics.registry import BERTSCORE
from localemp.reporting.published import Published, Setup
from localemp.reporting.systems import System
from localemp.reporting.tables import Note, Row, listed
from localemp.utils.formatting import count

Pair = tuple[int, str]  # the paper's table and its row

AS_PRINTED = "Rows in grey are the paper's results as printed ({sources})."
PLACED = "Its row stands below ours of the same strategy or system, its other rows at the end."
COUNTED = (
    "The paper names no tokens and no case for Dist and BLEU, and no model, version or rescaling for BERTScore. Its "
    "scripts count Dist as it is counted here.{bertscore}"
)


def counterparts(system: System, published: Published) -> tuple[Pair, ...]:
    """Return the paper's rows that correspond to a system; empty if the paper has none."""
    known = published.counterparts_of("automatic")
    return tuple((each.table, each.row) for each in known if each.matches(system.settings))


def grouped(systems: Sequence[System], published: Published) -> list[tuple[list[System], tuple[Pair, ...]]]:
    """Return the systems with their counterparts; systems that share one are grouped, in order of appearance."""
    groups: list[tuple[list[System], tuple[Pair, ...]]] = []
    for system in systems:
        pairs = counterparts(system, published)
        same = next((members for members, theirs in groups if pairs and theirs == pairs), None)
        if same is None:
            groups.append(([system], pairs))
        else:
            same.append(system)
    return groups


def paper_rows(published: Published, pairs: Sequence[Pair], columns: tuple[str, ...], *, beside: bool) -> list[Row]:
    """Return rows of the paper with its values of these columns."""
    return [published.table_of(number).row(name, columns, beside=beside) for number, name in pairs]


def notes(systems: Sequence[System], published: Published) -> list[Note]:
    """Return notes on the source of the paper's rows, their differences from ours, and our rows without counterpart."""
    tables = published.of("automatic")
    if not tables:
        return []
    told = [AS_PRINTED.format(sources="; ".join(table.read_from for table in tables))]
    if not published.counterparts:
        return [Note(told[0])]
    told[0] += f" {PLACED}"
    everyone = [system.name for system in systems]
    groups = grouped(systems, published)
    paired = [system for members, theirs in groups if theirs for system in members]
    for names, what in _by_systems(paired, published.setup) if published.setup else ():
        told.append(f"Unlike the paper ({listed(names, everyone)}): {'; '.join(what)}.")
    if without := [system.name for members, theirs in groups if not theirs for system in members]:
        numbers = listed(str(table.number) for table in tables)
        which = "Tables" if len(tables) > 1 else "Table"
        told.append(f"No counterpart in the paper's {which} {numbers}: {listed(without)}.")
    return [Note(text) for text in (*told, COUNTED.format(bertscore=_bertscore(systems)))]


def _by_systems(systems: Sequence[System], setup: Setup) -> list[tuple[tuple[str, ...], list[str]]]:
    """The differences, with the systems that share them; the most common first."""
    names: dict[str, list[str]] = {}
    for system in systems:
        for text in _differences(system, setup):
            names.setdefault(text, []).append(system.name)
    shared: dict[tuple[str, ...], list[str]] = {}
    for text, each in names.items():
        shared.setdefault(tuple(each), []).append(text)
    return sorted(shared.items(), key=lambda group: -len(group[0]))


def _differences(system: System, setup: Setup) -> Iterator[str]:
    made = system.settings
    if system.manifest is None:
        yield "replies of a public file, not those of the paper's table"
    else:
        yield from settings_that_differ(made, setup)
    # An import that was matched to a data set has the published rows, see `read_import`.
    same = bool(made.get("data")) if system.manifest is None else made.get("data_sha256") == setup.data_sha256
    if same and system.count == setup.replies:
        return
    counted = count(system.count, "dialogue")
    fewer = " (Dist falls with the number of replies)" if system.count != setup.replies else ""
    whose = " of its" if same else ", another set than its"
    yield f"{counted}{whose} {setup.replies:,} of `--instances published`{fewer}"


def settings_that_differ(made: Mapping[str, Any], setup: Setup) -> Iterator[str]:
    """Return the settings of a run that differ from the paper's, as far as both are known."""
    sampling = made.get("sampling")
    sampled = {**made, **sampling} if isinstance(sampling, Mapping) else made
    for name, theirs in setup.settings.items():
        if sampled.get(name, theirs) not in (theirs, None):
            yield f"{name} {_shown(sampled[name])}, theirs {_shown(theirs)}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bertscore(systems: Sequence[System]) -> str:
    """Return the distinct ways in which BERTScore was computed; empty if no system has it."""
    scores = [score for system in systems for score in system.scores.values() if score.name == BERTSCORE[-1]]
    made = dict.fromkeys(_way(score) for score in scores if score.value is not None)
    return f" Ours is {' and '.join(made)}." if made else ""


def _way(score: Score) -> str:
    made = dict(score.signature.settings)
    rescaled = "rescaled" if made.get("rescaled") else "not rescaled"
    return f"of {made.get('model')}, layer {made.get('layer')}, {rescaled}, bert-score {made.get('bert-score')}"
