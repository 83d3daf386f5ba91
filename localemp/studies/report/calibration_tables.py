"""How far judges can be trusted, as tables: biases, agreement with people, win rates, leniency, effective number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from localemp.reporting.tables import NOT_GIVEN, Cell, Note, Table, listed
from localemp.studies.report import cells
from localemp.studies.report.calibration import JudgeCalibration
from localemp.studies.report.captions import (
    ACCURACY,
    BIAS,
    CORRECTED,
    EFFECTIVE,
    LENIENCY,
    OWN,
    OWN_UNKNOWN,
    RATING_BIAS,
    WIN_RATES,
    WIN_RATES_PEOPLE,
)
from localemp.studies.report.results import StudyResults
from localemp.studies.report.table_cells import ALL, UNFINISHED, Cells, key_of, tabled
from localemp.studies.stats.effective_judges import EffectiveJudges
from localemp.studies.stats.intervals import FEW_DIALOGUES
from localemp.utils.formatting import count

MISSING = Cell(NOT_GIVEN)


def calibration_tables(results: StudyResults) -> list[Table]:
    """Return what is known of each judge, then what several are worth together."""
    return [replace(table, kind="calibration") for table in _tables(results)]


def _tables(results: StudyResults) -> Iterator[Table]:
    unfinished = {opinion.who for opinion in results.opinions if opinion.unfinished}
    for judge in results.calibration.judges:
        title = f"{judge.judge}{UNFINISHED if judge.judge in unfinished else ''}"
        if judge.biases:
            yield _biases(judge, title)
        if judge.agreements:
            yield _agreement(judge, title)
        if judge.win_rates:
            yield _win_rates(judge, title)
        if judge.corrected:
            yield _corrected(judge, title)
        if judge.leniency:
            yield _leniency(judge, title)
        if judge.rating_biases:
            yield _rating_biases(judge, title)
    if (together := results.calibration.effective) is not None:
        yield _effective(together)


def _biases(judge: JudgeCalibration, title: str) -> Table:
    rows: list[tuple[str, Cells]] = [
        (
            aspect or ALL,
            [
                ("Choices", cells.count(each.choices, "each order that a pair was shown in counts as one")),
                ("First shown", cells.percent(each.first)),
                ("Position", cells.percent(each.position.share)),
                ("Twice as long", cells.percent(each.length.share)),
                ("Own model", cells.percent(each.own.share)),
                ("People's choice", cells.percent(each.quality.share)),
            ],
        )
        for aspect, each in judge.biases
    ]
    dialogues = min(each.dialogues for _, each in judge.biases)
    key = f"bias-{key_of(judge.judge)}"
    notes: list[str | Note] = [
        BIAS,
        _own(judge),
        *_doubts({aspect or ALL: each.notes for aspect, each in judge.biases}),
    ]
    return tabled(key, f"What moves {title}", "Aspect", rows, notes, dialogues)


def _agreement(judge: JudgeCalibration, title: str) -> Table:
    rows: list[tuple[str, Cells]] = [
        (
            aspect or ALL,
            [
                ("Pairs", cells.count(each.pairs, "answered by people and judge")),
                ("As people", cells.percent(each.accuracy)),
                ("Kappa", cells.estimate(each.kappa)),
                ("Tau-b", cells.estimate(each.tau_b)),
                ("Spearman", cells.estimate(each.spearman)),
            ],
        )
        for aspect, each in judge.agreements
    ]
    dialogues = min(each.dialogues for _, each in judge.agreements)
    name = f"accuracy-{key_of(judge.judge)}"
    return tabled(name, f"{title}: the same choice as people", "Aspect", rows, [ACCURACY], dialogues)


def _win_rates(judge: JudgeCalibration, title: str) -> Table:
    rates = {each.system: each for each in judge.win_rates}
    people = {each.system: each for each in judge.people}
    rows: list[tuple[str, Cells]] = []
    for each in judge.strengths:
        rate = rates[each.system]
        row: Cells = [
            ("Choices", cells.count(each.choices, "each order that a pair was shown in counts as one")),
            ("Won", cells.percent(rate.raw)),
            ("Equal length", cells.percent(rate.controlled)),
            ("Words more", cells.figure(rate.words, 1, "it was compared with none")),
            ("Strength", cells.estimate(each.strength, sign="+")),
        ]
        if people:
            theirs = people.get(each.system)
            row += [
                ("People: won", cells.percent(theirs.won) if theirs else MISSING),
                ("People: strength", cells.estimate(theirs.strength, sign="+") if theirs else MISSING),
            ]
        rows.append((each.system, row))
    notes = [WIN_RATES, *([WIN_RATES_PEOPLE] if people else [])]
    dialogues = min(each.dialogues for each in judge.win_rates)
    return tabled(f"win-rates-{key_of(judge.judge)}", f"Win rates: {title}", "System", rows, notes, dialogues)


def _corrected(judge: JudgeCalibration, title: str) -> Table:
    rows: list[tuple[str, Cells]] = [
        (
            f"{each.first} vs. {each.second}",
            [
                ("Pairs", cells.count(each.pairs, "answered by the judge")),
                ("By people", cells.count(each.answered, "with a preference")),
                ("Judge", cells.percent(each.judged)),
                ("Sensitivity", cells.percent(each.sensitivity)),
                ("Specificity", cells.percent(each.specificity)),
                ("Corrected", cells.percent(each.corrected)),
            ],
        )
        for each in judge.corrected
    ]
    return tabled(f"corrected-{key_of(judge.judge)}", f"Corrected win rates: {title}", "Systems", rows, [CORRECTED])


def _leniency(judge: JudgeCalibration, title: str) -> Table:
    rows: list[tuple[str, Cells]] = [
        (
            each.aspect,
            [
                ("Replies", cells.count(each.replies, "rated by people and judge")),
                ("Judge", cells.percent(each.judge)),
                ("People", cells.percent(each.people)),
                ("Difference", cells.estimate(each.difference, 1, "+", " %", 100)),
                ("Spread", cells.estimate(each.spread)),
                ("Highest", cells.percent(each.top)),
                ("People's highest", cells.percent(each.people_top)),
            ],
        )
        for each in judge.leniency
    ]
    dialogues = min(each.dialogues for each in judge.leniency)
    key = f"leniency-{key_of(judge.judge)}"
    return tabled(key, f"How {title} uses the scale", "Aspect", rows, [LENIENCY], dialogues)


def _rating_biases(judge: JudgeCalibration, title: str) -> Table:
    rows: list[tuple[str, Cells]] = [
        (
            each.aspect,
            [
                ("Replies", cells.count(each.replies, "rated by people and judge")),
                ("Twice as long", cells.estimate(each.length, 1, "+", " %", 100)),
                ("Own model", cells.estimate(each.own, 1, "+", " %", 100)),
                ("People's rating", cells.estimate(each.quality, 1, "+", " %", 100)),
            ],
        )
        for each in judge.rating_biases
    ]
    dialogues = min(each.dialogues for each in judge.rating_biases)
    key = f"bias-{key_of(judge.judge)}"
    notes: list[str | Note] = [
        RATING_BIAS,
        _own(judge),
        *_doubts({each.aspect: each.notes for each in judge.rating_biases}),
    ]
    return tabled(key, f"What moves {title}", "Aspect", rows, notes, dialogues)


def _own(judge: JudgeCalibration) -> str:
    return OWN.format(systems=listed(judge.own)) if judge.own else OWN_UNKNOWN


def _doubts(notes: Mapping[str, Sequence[str]]) -> list[Note]:
    """Return what makes figures uncertain, with the rows it is about; few dialogues are told of by every table."""
    rows: dict[str, list[str]] = {}
    for name, told in notes.items():
        for note in told:
            if note != FEW_DIALOGUES:
                rows.setdefault(note, []).append(name)
    return [Note(f"In doubt ({listed(names, list(notes))}): {note}.") for note, names in rows.items()]


def _effective(together: EffectiveJudges) -> Table:
    heads = (f"Correlation of {together.of}", "Independent judges")
    rows: list[tuple[str, Cells]] = [
        (" and ".join(two), [(heads[0], cells.estimate(each)), (heads[1], MISSING)])
        for two, each in together.correlations.items()
    ]
    mean: Mapping[str, Cell] = {heads[0]: cells.estimate(together.mean), heads[1]: cells.estimate(together.effective)}
    rows.append((f"All {count(len(together.judges), 'judge')}", list(mean.items())))
    title = f"How many judges {listed(together.judges)} are worth"
    told = f"{count(together.units, 'answer')} that all judges gave."
    return tabled("effective-judges", title, "Judges", rows, [EFFECTIVE, Note(told)], together.dialogues)
