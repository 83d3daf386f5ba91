"""The results of a study as tables: the paper's Tables 2, 4 and 6, agreement, and rater bias."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from localemp.reporting.published import Published
from localemp.reporting.tables import Note, Table, listed
from localemp.studies.own_family import family_note
from localemp.studies.report import cells
from localemp.studies.report.calibration_tables import calibration_tables
from localemp.studies.report.captions import AGREEMENT, FIRST, FLIPS, MEASURED, ORDER, UNREAD
from localemp.studies.report.opinion_tables import correlation_tables, opinion_tables
from localemp.studies.report.published import PaperResults
from localemp.studies.report.results import NEEDED, StudyResults
from localemp.studies.report.side_by_side import side_by_side
from localemp.studies.report.table_cells import Cells, key_of, part_of, tabled, units_of
from localemp.studies.stats.rater_bias import PEOPLE
from localemp.utils.formatting import count

MANY = 20  # raters, above which a table does not name each


def study_tables(
    results: StudyResults,
    name: str = "",
    runs: Sequence[str] = (),
    published: Published | None = None,
    judges_only: bool = False,
) -> list[Table]:
    """Return all tables of a study's results.

    Args:
        results: Of the study.
        name: Put before titles and keys, where a report has more than one study.
        runs: The runs beside which the tables stand; a note says where the study is of others.
        published: The paper's results, shown next to ours; None leaves them out.
        judges_only: How far people agree and judges can be trusted, and not what they think of the systems.
    """
    papers = PaperResults(results, published)
    tables: list[Table] = []
    if not judges_only:
        tables += side_by_side(results)
        tables += [table for opinion in results.opinions for table in opinion_tables(results, opinion, papers)]
        tables += papers.other_comparisons()
    tables += [*_agreement(results), *([] if judges_only else _people(results)), *_judges(results)]
    tables += [
        table
        for opinion in results.opinions
        for table in correlation_tables(results, opinion, papers, brief=judges_only)
    ]
    tables.sort(key=lambda table: table.kind == "correlation")  # they are a section of their own in `localemp report`
    tables += calibration_tables(results)  # and so are these
    first = (*_beside(results, runs), *_design(results))
    made, keys = ((_signature(results), "all"),), set[str]()
    return [
        replace(
            table,
            key=_unique(f"{key_of(name)}-{table.key}" if name else table.key, keys),
            title=f"{name}: {table.title}" if name else table.title,
            notes=(*(first if table is tables[0] else ()), *table.notes),
            made=() if all(row.published for row in table.rows) else made,
        )
        for table in tables
    ]


def _beside(results: StudyResults, runs: Sequence[str]) -> list[Note]:
    others = [system for system in results.study.systems if system not in runs]
    if not (runs and others):
        return []
    return [Note(f"The study has replies of {listed(others)}: no run of that name is in this report.")]


def _design(results: StudyResults) -> list[Note]:
    """Yield the progress of people against the design."""
    if (told := results.coverage) is None:
        return []
    have = "all have them" if told.whole == told.items else f"{told.whole:,} have them"
    each = f"an item has {told.fewest}" if told.fewest == told.most else f"an item has {told.fewest} to {told.most}"
    preset = results.study.manifest.preset
    asking = f"Preset {preset}" if preset else "The design"
    people = count(told.annotators, "person", "people")
    return [Note(f"{asking} asks for {people} on each of the {told.items:,} items: {have}; {each}.")]


def _signature(results: StudyResults) -> str:
    study, bootstrap = results.study.manifest, results.bootstrap
    used = "|".join(f"{package}:{version(package)}" for package in ("localemp", *NEEDED))
    drawn = f"bootstrap:percentiles|over:dialogues|resamples:{bootstrap.resamples}|seed:{bootstrap.seed}"
    rated = "" if study.scale is None else f"|ratings:{study.ratings_by}"
    return f"study|items:{study.items_sha256[:12]}|key:{study.key_sha256[:12]}{rated}|{drawn}|{used}"


def _agreement(results: StudyResults) -> list[Table]:
    if not results.agreements:
        return []
    ab = results.study.manifest.kind == "ab"
    rows: list[tuple[str, Cells]] = [
        (
            part_of(each.aspect, each.group),
            [
                (units_of(results), cells.count(each.units, "answered by two raters or more")),
                ("Raters", cells.span(*each.raters)),
                ("Alpha", cells.estimate(each.alpha)),
                ("Kappa", cells.estimate(each.kappa)),
                ("Equal", cells.percent(each.equal)),
                ("Spearman", cells.estimate(each.spearman)),
            ],
        )
        for each in results.agreements
    ]
    notes: list[str | Note] = [AGREEMENT, *([ORDER] if ab else [])]
    fewer = [each for each in results.agreements if each.kappa_units < each.units]
    if fewer:
        told = listed(f"{part_of(each.aspect, each.group)}: {each.kappa_units:,} of {each.units:,}" for each in fewer)
        notes.append(Note(f"Kappa is of what has the usual number of raters ({told})."))
    dialogues = min(each.dialogues for each in results.agreements)
    return [tabled("agreement", "How far people agree", "Aspect", rows, notes, dialogues)]


def _people(results: StudyResults) -> list[Table]:
    people = [each for each in results.rater_biases if each.kind != "judge"]
    failed = [each for each in people if each.checked and each.checked.failed]
    shown = people if len(people) <= MANY else [each for each in people if each.rater == PEOPLE or each in failed]
    saw = sum(each.checked is not None for each in people)
    named = {each.rater for each in people if each.kind == "person"}
    ab = results.study.manifest.kind == "ab"
    rows: list[tuple[str, Cells]] = []
    for each in shown:
        row: Cells = [("Answers", cells.count(each.answers))]
        row += [("Ties", cells.ties(each)), ("First shown", cells.percent(each.first))] if ab else []
        row += [("Checks missed", cells.checks(each))] if saw else []
        rows.append((f"{each.rater} (imported)" if each.kind == "import" and each.rater in named else each.rater, row))
    notes: list[str | Note] = [FIRST] if ab else []
    if saw:
        done = "left out" if results.dropped else "not left out, as `--drop-failed` would do"
        names = f" ({listed(each.rater for each in failed)}; {done})" if failed else ""
        missed = f"Raters who missed half of the attention checks or more: {len(failed)} of {saw}"
        notes.append(Note(f"{missed}{names}. Answers to attention checks count in no figure."))
    if len(shown) < len(people):
        told = f"`localemp study report --json` has all raters, of whom {len(people) - len(shown)} are not here."
        notes.append(Note(told))
    return [tabled("raters", "What raters do", "Rater", rows, notes)] if rows else []


def _judges(results: StudyResults) -> list[Table]:
    biases = {each.rater: each for each in results.rater_biases if each.kind == "judge"}
    ab = results.study.manifest.kind == "ab"
    is_measured = any(opinion.judge and opinion.judge.measured for opinion in results.opinions)
    rows: list[tuple[str, Cells]] = []
    for opinion in results.opinions:
        if (judge := opinion.judge) is None:
            continue
        row: Cells = [
            ("Answers", cells.count(judge.answers, "to every question, in every order, every time")),
            ("Unread", cells.share(judge.unparsable, judge.answers)),
            ("Votes", cells.count(judge.votes, f"{judge.missing:,} missing")),
        ]
        if ab:
            row.append(("Flips", cells.share(judge.flips, judge.pairs)))
            row.append(("Ties", cells.ties(biases[opinion.who])))
            row.append(("First shown", cells.share(judge.first, judge.choices)))
        if is_measured:
            row += [("First shown (P)", cells.mean_share(judge.first_probability))] if ab else []
            row += [("Confidence", cells.mean_share(judge.confidence)), ("Mass", cells.mean_share(judge.mass))]
        if any(each.checked for each in biases.values()):
            row.append(("Checks missed", cells.checks(biases[opinion.who])))
        rows.append((opinion.who, row))
    lacking = [
        Note(f"{each.who} is not finished: {each.unfinished}, attention checks aside.")
        for each in results.opinions
        if each.unfinished
    ]
    own = [Note(f"{family_note(each.who, each.own_family)}.") for each in results.opinions if each.own_family]
    notes: list[str | Note] = [*own, *lacking, UNREAD, *([FLIPS] if ab else []), *([MEASURED] if is_measured else [])]
    return [tabled("judges", "What judges do", "Judge", rows, notes)] if rows else []


def _unique(key: str, taken: set[str]) -> str:
    """Return a unique key, with a number if another table has the same: judges' names are shortened in keys."""
    number, name = 1, key
    while name in taken:
        number += 1
        name = f"{key}-{number}"
    taken.add(name)
    return name
