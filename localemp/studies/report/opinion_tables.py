"""The results from people or one judge as tables: the paper's Tables 4, 2 and 6, its rows next to ours."""

from collections.abc import Iterator
from itertools import combinations

from localemp.reporting.tables import Note, Table
from localemp.studies.report import cells
from localemp.studies.report.captions import (
    LABELS,
    MAJORITY,
    MAJORITY_RATING,
    MEAN,
    MEAN_RATING,
    PERSON,
    POOLED,
    PREFERENCES,
    STEPS,
    WITHIN,
)
from localemp.studies.report.published import PaperResults
from localemp.studies.report.results import RaterResults, StudyResults
from localemp.studies.report.table_cells import UNFINISHED, Cells, doubts, key_of, part_of, tabled, units_of, who
from localemp.studies.stats.matrix import comparison
from localemp.utils.formatting import count

FINE = 20  # width of a scale, above which one decimal is enough


def opinion_tables(results: StudyResults, opinion: RaterResults, papers: PaperResults) -> Iterator[Table]:
    """Yield preferences for an A/B test, else ratings and their differences."""
    if (scale := results.study.manifest.scale) is None:
        yield from _preferences(results, opinion, papers)
    else:
        yield from _ratings(results, opinion, papers, *scale)


def correlation_tables(
    results: StudyResults, opinion: RaterResults, papers: PaperResults, *, brief: bool = False
) -> Iterator[Table]:
    """Yield the correlation of a judge with people; nothing without a judge or without people.

    A brief table has of each comparison or system only the row of all aspects, where there is one.
    """
    if not opinion.correlations:
        return
    manifest = results.study.manifest
    shown = opinion.correlations
    if brief and any(each.group and not each.aspect for each in shown):
        shown = tuple(each for each in shown if not (each.group and each.aspect))
    rows: list[tuple[str, Cells]] = [
        (
            part_of(each.aspect, each.group),
            [
                (units_of(results), cells.count(each.units, "answered by people and judge")),
                ("Spearman", cells.estimate(each.spearman)),
                ("Tau-b", cells.estimate(each.tau_b)),
                ("Person's Spearman", cells.ceiling(each.person_spearman)),
                ("Person's tau-b", cells.ceiling(each.person_tau_b)),
            ],
        )
        for each in shown
    ]
    told = MAJORITY_RATING if manifest.ratings_by == "majority" else MEAN_RATING
    if manifest.scale is None:
        told = LABELS
    notes = [told, PERSON]
    if any(each.group for each in opinion.correlations):
        notes.append(WITHIN.format(part="comparison" if manifest.scale is None else "system"))
    if len(shown) < len(opinion.correlations):
        notes.append("`study report` has the single aspects of each, too.")
    title = f"{opinion.who} and people{UNFINISHED if opinion.unfinished else ''}"
    dialogues = min(each.dialogues for each in opinion.correlations)
    key = f"correlation-{key_of(opinion.who)}"
    yield papers.beside_correlations(tabled(key, title, "Aspect", rows, notes, dialogues, "correlation"))


def _preferences(results: StudyResults, opinion: RaterResults, papers: PaperResults) -> Iterator[Table]:
    systems = {comparison(*pair): pair for pair in combinations(results.study.systems, 2)}
    for group in dict.fromkeys(each.comparison for each in opinion.preferences):
        rows: dict[str, Cells] = {}
        tests = {}
        for each in opinion.preferences:
            if each.comparison == group:
                size, test = (each.raters, each.items), each.t_test
                counts = [("Win", each.win), ("Lose", each.lose), ("Tie", each.tie)]
                found = [(head, cells.part_of(count, each.total, each.counted)) for head, count in counts]
                found.append(("Won", cells.percent(each.share)))
                found.append(("Over dialogues", cells.interval_in_percent(each.by_dialogue)))
                found.append(("p", cells.probability(each.p, each.share.reason)))
                found.append(("t", cells.figure(test.t, 2, test.reason)))
                found.append(("p (t)", cells.probability(test.p, test.reason)))
                name = each.aspect if each.counted == "votes" else f"{each.aspect}, majorities"
                rows[name], tests[name] = found, test
        first, second = systems[group]
        whose = Note(f"Win: {first} is better; lose: {second} is.")
        notes: list[str | Note] = [whose, PREFERENCES, *([POOLED] if size[0] > 1 else []), *doubts(tests)]
        key = f"preferences-{key_of(opinion.who)}-{key_of(group)}"
        title = f"{group}: {who(opinion, *size)}"
        table = tabled(key, title, "Aspect", list(rows.items()), notes, opinion.dialogues)
        yield papers.beside_preferences(table, first, second) if papers.stand_beside(opinion) else table


def _ratings(
    results: StudyResults, opinion: RaterResults, papers: PaperResults, low: int, high: int
) -> Iterator[Table]:
    decimals = 2 if high - low <= FINE else 1
    by_system: dict[str, Cells] = {}
    for mean in opinion.means:
        replies = max(each.replies for each in opinion.means if each.system == mean.system)
        row = by_system.setdefault(mean.system, [("Replies", cells.count(replies, "that were rated"))])
        row.append((mean.aspect, cells.estimate(mean.mean, decimals)))
    how = MAJORITY if results.study.manifest.ratings_by == "majority" else MEAN
    notes = [f"Means from {low} to {high}, with 95 % intervals over dialogues.", *([how] if opinion.raters > 1 else [])]
    key, whose = key_of(opinion.who), who(opinion, opinion.raters, opinion.items)
    rows = list(by_system.items())
    table = tabled(f"ratings-{key}", f"Ratings: {whose}", "System", rows, [" ".join(notes)], opinion.dialogues)
    yield papers.beside_ratings(table) if papers.stand_beside(opinion) else table
    tests = {f"{each.first} − {each.second}: {each.aspect}": each.t_test for each in opinion.differences}
    rows = [
        (
            name,
            [
                ("Dialogues", cells.count(each.dialogues, "of which both were rated")),
                ("Difference", cells.estimate(each.difference, decimals, sign="+")),
                ("t", cells.figure(test.t, 2, test.reason)),
                ("p", cells.probability(test.p, test.reason)),
                ("p Holm", cells.probability(each.p_holm, test.reason)),
            ],
        )
        for (name, test), each in zip(tests.items(), opinion.differences, strict=True)
    ]
    if rows:
        made = sum(test.p is not None for test in tests.values())
        over = f"; Holm's correction is over {count(made, 'test')}" if made else ""
        how = f"Paired t-tests over dialogues, two-sided, as the paper reports{over}. {STEPS}"
        told: list[str | Note] = [how, *doubts(tests)]
        yield tabled(f"differences-{key}", f"Differences: {whose}", "Systems", rows, told, opinion.dialogues)
