"""The figures of a study as tables: Tables 2, 4 and 6 of the paper, agreement, and what raters do."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import combinations

from localemp.reporting.tables import NOT_AVAILABLE, Cell, Kind, Note, Row, Table, listed, not_available
from localemp.studies import cells
from localemp.studies.captions import (
    AGREEMENT,
    FEW,
    FIRST,
    FLIPS,
    LABELS,
    MEANS,
    ORDER,
    PERSON,
    POOLED,
    PREFERENCES,
    TOO_FEW,
    UNREAD,
    WITHIN,
)
from localemp.studies.figures import NEEDED, Figures, Opinion
from localemp.studies.habits import PEOPLE
from localemp.studies.sheet import comparison

MANY = 20  # raters, above which a table does not name each
FINE = 20  # width of a scale, above which one decimal is enough
ALL = "All aspects"
UNFINISHED = " (not finished)"

_Cells = list[tuple[str, Cell]]


def study_tables(figures: Figures, name: str = "", runs: Sequence[str] = ()) -> list[Table]:
    """All tables that the study has figures for.

    Args:
        figures: Of the study.
        name: Put before titles and keys, where a report has more than one study.
        runs: The runs beside which the tables stand; a note says where the study is of others.
    """
    tables: list[Table] = []
    for opinion in figures.opinions:
        tables += [*_preferences(figures, opinion), *_ratings(figures, opinion)]
    tables += _agreement(figures)
    tables += [*_people(figures), *_judges(figures)]
    tables += [table for opinion in figures.opinions for table in _correlation(figures, opinion)]
    beside = _beside(figures, runs)
    made, keys = ((_signature(figures), "all"),), set[str]()
    return [
        replace(
            table,
            key=_unique(f"{_key(name)}-{table.key}" if name else table.key, keys),
            title=f"{name}: {table.title}" if name else table.title,
            notes=(*(beside if table is tables[0] else ()), *table.notes),
            made=made,
        )
        for table in tables
    ]


def _beside(figures: Figures, runs: Sequence[str]) -> list[Note]:
    others = [system for system in figures.study.systems if system not in runs]
    if not (runs and others):
        return []
    return [Note(f"The study has replies of {listed(others)}: no run of that name is in this report.")]


def _signature(figures: Figures) -> str:
    study, bootstrap = figures.study.manifest, figures.bootstrap
    used = "|".join(f"{package}:{version(package)}" for package in ("localemp", *NEEDED))
    drawn = f"bootstrap:percentiles|over:dialogues|resamples:{bootstrap.resamples}|seed:{bootstrap.seed}"
    return f"study|items:{study.items_sha256[:12]}|key:{study.key_sha256[:12]}|{drawn}|{used}"


def _preferences(figures: Figures, opinion: Opinion) -> list[Table]:
    tables: list[Table] = []
    systems = {comparison(*pair): pair for pair in combinations(figures.study.systems, 2)}
    for group in dict.fromkeys(each.comparison for each in opinion.preferences):
        rows: list[tuple[str, _Cells]] = []
        for each in opinion.preferences:
            if each.comparison == group:
                size = each.raters, each.items
                counts = [("Win", each.win), ("Lose", each.lose), ("Tie", each.tie)]
                found = [(head, cells.part_of(count, each.total, each.counted)) for head, count in counts]
                found.append(("Won", cells.percent(each.share)))
                found.append(("Over dialogues", cells.interval_in_percent(each.by_dialogue)))
                found.append(("p", cells.probability(each.p, each.share.reason)))
                rows.append((each.aspect if each.counted == "votes" else f"{each.aspect}, majorities", found))
        first, second = systems[group]
        notes = [f"Win: {first} is better; lose: {second} is. {PREFERENCES}", *([POOLED] if size[0] > 1 else [])]
        key = f"preferences-{_key(opinion.who)}-{_key(group)}"
        tables.append(_table(key, f"{group}: {_who(opinion, *size)}", "Aspect", rows, notes, opinion.dialogues))
    return tables


def _ratings(figures: Figures, opinion: Opinion) -> list[Table]:
    if figures.study.manifest.scale is None:
        return []
    low, high = figures.study.manifest.scale
    decimals = 2 if high - low <= FINE else 1
    by_system: dict[str, _Cells] = {}
    for mean in opinion.means:
        replies = max(each.replies for each in opinion.means if each.system == mean.system)
        row = by_system.setdefault(mean.system, [("Replies", cells.count(replies, "that were rated"))])
        row.append((mean.aspect, cells.estimate(mean.mean, decimals)))
    note = f"Means from {low} to {high}, a reply's raters averaged first, with 95 % intervals over dialogues."
    key, who = _key(opinion.who), _who(opinion, opinion.raters, opinion.items)
    tables = [_table(f"ratings-{key}", f"Ratings: {who}", "System", list(by_system.items()), [note], opinion.dialogues)]
    rows: list[tuple[str, _Cells]] = [
        (
            f"{each.first} − {each.second}: {each.aspect}",
            [
                ("Dialogues", cells.count(each.dialogues, "of which both were rated")),
                ("Difference", cells.estimate(each.difference, decimals, sign="+")),
                ("t", cells.figure(each.t, 2, each.reason)),
                ("p", cells.probability(each.p, each.reason)),
                ("p Holm", cells.probability(each.p_holm, each.reason)),
            ],
        )
        for each in opinion.differences
    ]
    if rows:
        tests = sum(each.p is not None for each in opinion.differences)
        over = f"; Holm's correction is over {tests} test{'s' if tests > 1 else ''}" if tests else ""
        note = f"Paired t-tests over dialogues, two-sided{over}."
        tables.append(_table(f"differences-{key}", f"Differences: {who}", "Systems", rows, [note], opinion.dialogues))
    return tables


def _agreement(figures: Figures) -> list[Table]:
    if not figures.agreements:
        return []
    ab = figures.study.manifest.kind == "ab"
    rows: list[tuple[str, _Cells]] = [
        (
            _part(each.aspect, each.group),
            [
                (_units(figures), cells.count(each.units, "answered by two raters or more")),
                ("Raters", cells.span(*each.raters)),
                ("Alpha", cells.estimate(each.alpha)),
                ("Kappa", cells.estimate(each.kappa)),
                ("Equal", cells.percent(each.equal)),
                ("Spearman", cells.estimate(each.spearman)),
            ],
        )
        for each in figures.agreements
    ]
    notes = [AGREEMENT, *([ORDER] if ab else [])]
    fewer = [each for each in figures.agreements if each.kappa_units < each.units]
    if fewer:
        told = listed(f"{_part(each.aspect, each.group)}: {each.kappa_units:,} of {each.units:,}" for each in fewer)
        notes.append(f"Kappa is of what has the usual number of raters ({told}).")
    dialogues = min(each.dialogues for each in figures.agreements)
    return [_table("agreement", "How far people agree", "Aspect", rows, notes, dialogues)]


def _people(figures: Figures) -> list[Table]:
    people = [each for each in figures.habits if each.kind != "judge"]
    failed = [each for each in people if each.checked and each.checked.failed]
    shown = people if len(people) <= MANY else [each for each in people if each.rater == PEOPLE or each in failed]
    saw = sum(each.checked is not None for each in people)
    named = {each.rater for each in people if each.kind == "person"}
    ab = figures.study.manifest.kind == "ab"
    rows: list[tuple[str, _Cells]] = []
    for each in shown:
        row: _Cells = [("Answers", cells.count(each.answers))]
        row += [("Ties", cells.ties(each)), ("First shown", cells.percent(each.first))] if ab else []
        row += [("Checks missed", cells.checks(each))] if saw else []
        rows.append((f"{each.rater} (imported)" if each.kind == "import" and each.rater in named else each.rater, row))
    notes = [FIRST] if ab else []
    if saw:
        done = "left out" if figures.dropped else "not left out, as `--drop-failed` would do"
        names = f" ({listed(each.rater for each in failed)}; {done})" if failed else ""
        missed = f"Raters who missed half of the attention checks or more: {len(failed)} of {saw}"
        notes.append(f"{missed}{names}. Answers to attention checks count in no figure.")
    if len(shown) < len(people):
        notes.append(f"`localemp study report --json` has all raters, of whom {len(people) - len(shown)} are not here.")
    return [_table("raters", "What raters do", "Rater", rows, notes)] if rows else []


def _judges(figures: Figures) -> list[Table]:
    habits = {each.rater: each for each in figures.habits if each.kind == "judge"}
    ab = figures.study.manifest.kind == "ab"
    rows: list[tuple[str, _Cells]] = []
    for opinion in figures.opinions:
        if (judge := opinion.judge) is None:
            continue
        row: _Cells = [
            ("Answers", cells.count(judge.answers, "to every question, in every order, every time")),
            ("Unread", cells.share(judge.unparsable, judge.answers)),
            ("Votes", cells.count(judge.votes, f"{judge.missing:,} missing")),
        ]
        if ab:
            row.append(("Flips", cells.share(judge.flips, judge.pairs)))
            row.append(("Ties", cells.ties(habits[opinion.who])))
            row.append(("First shown", cells.share(judge.first, judge.choices)))
        if any(each.checked for each in habits.values()):
            row.append(("Checks missed", cells.checks(habits[opinion.who])))
        rows.append((opinion.who, row))
    lacking = [
        f"{each.who} is not finished: {each.unfinished}, attention checks aside."
        for each in figures.opinions
        if each.unfinished
    ]
    notes = [*lacking, UNREAD, *([FLIPS] if ab else [])]
    return [_table("judges", "What judges do", "Judge", rows, notes)] if rows else []


def _correlation(figures: Figures, opinion: Opinion) -> list[Table]:
    if not opinion.correlations:
        return []
    ab = figures.study.manifest.kind == "ab"
    rows: list[tuple[str, _Cells]] = [
        (
            _part(each.aspect, each.group),
            [
                (_units(figures), cells.count(each.units, "answered by people and judge")),
                ("Spearman", cells.estimate(each.spearman)),
                ("Tau-b", cells.estimate(each.tau_b)),
                ("Person's Spearman", cells.ceiling(each.person_spearman)),
                ("Person's tau-b", cells.ceiling(each.person_tau_b)),
            ],
        )
        for each in opinion.correlations
    ]
    notes = [LABELS if ab else MEANS, PERSON]
    if any(each.group for each in opinion.correlations):
        notes.append(WITHIN.format(part="comparison" if ab else "system"))
    title = f"{opinion.who} and people{UNFINISHED if opinion.unfinished else ''}"
    dialogues = min(each.dialogues for each in opinion.correlations)
    return [_table(f"correlation-{_key(opinion.who)}", title, "Aspect", rows, notes, dialogues, "correlation")]


def _table(
    key: str,
    title: str,
    head: str,
    rows: Sequence[tuple[str, _Cells]],
    notes: Sequence[str],
    dialogues: int = FEW,
    kind: Kind = "people",
) -> Table:
    """A table; one with intervals over few dialogues says so."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, row in rows:
        for column, cell in row:
            if cell.text.endswith(NOT_AVAILABLE):
                reasons.setdefault(cell.about, {}).setdefault(column, []).append(name)
    why = not_available(reasons, [name for name, _ in rows])
    is_few = dialogues < FEW and any(cell.interval for _, row in rows for _, cell in row)
    return Table(
        key,
        kind,
        title,
        head,
        tuple(column for column, _ in rows[0][1]),
        tuple(Row(name, tuple(cell for _, cell in row)) for name, row in rows),
        (*why, *map(Note, [*notes, *([TOO_FEW] if is_few else [])])),
    )


def _part(aspect: str | None, group: str | None) -> str:
    return f"{aspect or ALL}, {group}" if group else aspect or ALL


def _units(figures: Figures) -> str:
    return "Items" if figures.study.manifest.kind == "ab" else "Replies"


def _who(opinion: Opinion, raters: int, items: int) -> str:
    who = opinion.who if opinion.judge else f"{raters:,} {'person' if raters == 1 else 'people'}"
    return f"{who}, {items:,} item{'' if items == 1 else 's'}{UNFINISHED if opinion.unfinished else ''}"


def _key(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name.casefold()).strip("-")


def _unique(key: str, taken: set[str]) -> str:
    """The key with a number where another table has it: judges' names may differ in what a key has no room for."""
    number, name = 1, key
    while name in taken:
        number += 1
        name = f"{key}-{number}"
    taken.add(name)
    return name
