"""The tables of automatic metrics: the paper's columns (its Tables 1 and 3), further groups, secondary ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from localemp.metrics.base import PAPER, Score
from localemp.metrics.choice import Choice, intervals_in_words
from localemp.metrics.registry import (
    BERTSCORE,
    CHOICE,
    GROUPS,
    SECONDARY,
    by_group,
    decimals,
    is_hidden,
    metric,
    metric_entries,
)
from localemp.metrics.scoring import context_of_people, other_bertscore, stand_in
from localemp.metrics.significance import Interval
from localemp.reporting.comparing import Marks
from localemp.reporting.counterparts import grouped, notes, paper_rows
from localemp.reporting.published import Published
from localemp.reporting.systems import System
from localemp.reporting.tables import NOT_AVAILABLE, Cell, Note, Row, Table, listed, not_available, number

COLUMNS = ("Dist-1", "Dist-2", *BERTSCORE, "B-2", "B-4", "Acc")
UNITS = "BERTScore from 0 to 1, {others} x100. `localemp compare` tests which differences are significant."
UNITS_OF = {
    "overlap": "All x100.",
    "diversity": "All x100.",
    "form": "Length in words, the others in percent.",
    "epitome": "Means of levels from 0 to 2, as a classifier finds them; diff: mean squared difference from those of "
    "people's replies.",
    "choice": "In percent, both orders averaged.",
}


def automatic_tables(systems: Sequence[System], published: Published) -> list[Table]:
    """Return the table of the paper's columns, ours and theirs, one for each further group, and secondary metrics."""
    scored = dict.fromkeys([*metric_entries(), *(name for system in systems for name in system.scores)])
    others = [name for name in scored if name not in COLUMNS and any(name in system.scores for system in systems)]
    shown = by_group(name for name in others if not is_hidden(name))
    added = shown.pop(PAPER, [])
    units = UNITS.format(others="the paper's others" if added else "all others")
    told = [*_system_notes(systems), *notes(systems, published), Note(units), *_not_scored(systems)]
    tables = [_table("automatic", GROUPS[PAPER], systems, (*COLUMNS, *added), published, told)]
    tables += [
        _table(f"automatic-{group}", GROUPS[group], systems, tuple(names), told=_about_group(systems, group))
        for group, names in shown.items()
        if any(_has_value(system, name) for system in systems for name in names)
    ]
    if hidden := tuple(name for name in others if is_hidden(name)):
        tables.append(_table("automatic-second", SECONDARY, systems, hidden))
    return tables


def _about_group(systems: Sequence[System], group: str) -> list[Note]:
    """Return units, and what a reader needs to read the numbers of one group."""
    told = [UNITS_OF[group]]
    if group == "form":
        told += _by_system((system.name, context_of_people(system.scores.values())) for system in systems)
    if group == "choice":
        told += _choices(systems)
    return [Note(text) for text in told]


def _choices(systems: Sequence[System]) -> list[str]:
    """Say who judged by what, and where P(choice) lies, since it can be set against 50."""
    found: dict[str, Interval | None] = {}
    judges: list[tuple[str, list[str]]] = []
    for system in systems:
        score = system.scores.get(CHOICE)
        if score is not None and score.value is not None:
            signed = dict(score.signature.settings)
            judge, aspect = str(signed["judge"]), str(signed["aspect"])
            judges.append((system.name, [f"judged by {judge}, {aspect}"]))
            if system.replies is not None:
                found[system.name] = Choice(judge, aspect).interval(system.replies)
    intervals = intervals_in_words(found)
    return [*_by_system(judges), *([f"{intervals}."] if intervals else [])]


def _not_scored(systems: Sequence[System]) -> list[Note]:
    """Name the metrics with a model that no run has a value of, since a report does not compute them."""
    reasons: dict[str, list[str]] = {}
    for name, entry in metric_entries().items():
        if entry.needs_model and name not in COLUMNS and not any(_has_value(system, name) for system in systems):
            tried = [system.scores[name].reason for system in systems if name in system.scores]
            reasons.setdefault(tried[0] if tried else "`localemp score` adds what it has a model for", []).append(name)
    return [Note(f"Not scored: {listed(names)} ({reason}).") for reason, names in reasons.items()]


def _has_value(system: System, name: str) -> bool:
    score = system.scores.get(name)
    return score is not None and score.value is not None


def _table(
    key: str,
    title: str,
    systems: Sequence[System],
    columns: tuple[str, ...],
    published: Published | None = None,
    told: Sequence[Note] = (),
) -> Table:
    lower = [name for name in columns if _is_lower_better(name) and any(name in each.scores for each in systems)]
    marks = Marks(systems, columns)
    everyone = [system.name for system in systems]
    reasons: dict[str, dict[str, list[str]]] = {}
    ours: dict[str, Row] = {}
    for system in systems:
        cells = [_replies(system)]
        for column in columns:
            cell = _cell(column, system.scores.get(column), marks.of(system, column))
            if cell.value is None:
                reasons.setdefault(cell.about, {}).setdefault(column, []).append(system.name)
            cells.append(cell)
        ours[system.name] = Row(system.name, tuple(cells), system.about, warning=system.warning)
    return Table(
        key,
        "automatic",
        title,
        "System",
        ("Replies", *columns),
        tuple(ours.values() if published is None else _with_paper(ours, systems, published, columns)),
        (
            *marks.notes,
            *not_available(reasons, everyone),
            *([Note(f"Lower is better: {listed(lower)}.")] if lower else []),
            *told,
        ),
        _made(systems, columns, everyone),
    )


def _with_paper(
    ours: Mapping[str, Row], systems: Sequence[System], published: Published, columns: tuple[str, ...]
) -> Iterator[Row]:
    """Each group of our rows with its counterparts below it, then the paper's other rows."""
    groups = grouped(systems, published)
    paired = {pair for _, pairs in groups for pair in pairs}
    others = [
        (table.number, name)
        for table in published.of("automatic")
        for name in table.names
        if (table.number, name) not in paired
    ]
    blank = Cell("", about="not in the paper's table")
    for members, pairs in (*groups, ([], others)):
        yield from (ours[system.name] for system in members)
        for row in paper_rows(published, pairs, columns, beside=bool(members)):
            yield replace(row, cells=(blank, *row.cells))


def _cell(column: str, score: Score | None, mark: str) -> Cell:
    if score is None:
        entry = metric_entries().get(column)
        option = entry.on_request if entry else ""
        return Cell(NOT_AVAILABLE, about=f"not scored; `localemp score{option and ' '}{option}` adds it")
    if score.value is None:
        return Cell(NOT_AVAILABLE, about=score.reason)
    return Cell(number(score.value, decimals(column)), score.value, str(score.signature), mark)


def _is_lower_better(column: str) -> bool:
    return column in metric_entries() and metric(column).higher_is_better is False


def _replies(system: System) -> Cell:
    return Cell(f"{system.count:,}", system.count, "replies that were scored")


def _made(systems: Sequence[System], columns: Sequence[str], everyone: Sequence[str]) -> tuple[tuple[str, str], ...]:
    made: dict[str, list[str]] = {}
    for column in columns:
        for system in systems:
            if (score := system.scores.get(column)) is not None and score.value is not None:
                made.setdefault(_settings(score), []).append(system.name)
    return tuple((signature, listed(names, everyone)) for signature, names in made.items())


def _settings(score: Score) -> str:
    # Without the ids: runs have theirs in the order in which they were finished; the cell has the whole signature.
    return str(score.signature).rpartition("|ids:")[0]


def _system_notes(systems: Sequence[System]) -> list[Note]:
    told = []
    for each in systems:
        scores = list(each.scores.values())
        found = (*each.notes, *other_bertscore(scores), *stand_in(scores))
        told.append((each.name, [note for note in found if note != each.truncation]))
    return [*map(Note, _by_system(told)), *_truncated(systems)]


def _truncated(systems: Sequence[System]) -> list[Note]:
    """Say how many replies of each run were truncated, and once what to do."""
    lines = [f"{system.name}: {system.truncation}" for system in systems if system.truncation]
    if not lines:
        return []
    found = [system.replies.truncation.hint for system in systems if system.replies is not None]
    told = "".join(
        f" Truncated replies are scored as they stand; {hint}." for hint in dict.fromkeys(filter(None, found))
    )
    return [Note(f"{'; '.join(lines)}.{told}")]


def _by_system(notes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return each note once, after the names of the systems that it is about."""
    told: dict[str, list[str]] = {}
    everyone = []
    for name, texts in notes:
        everyone.append(name)
        for text in dict.fromkeys(texts):
            told.setdefault(text, []).append(name)
    return [f"{listed(names, everyone)}: {text}" for text, names in told.items()]
