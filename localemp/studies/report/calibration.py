"""How far the judges of a study can be trusted: their biases, their agreement with people, and corrected results."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from localemp.studies.judged_answers import judged_ratings, pair_choices
from localemp.studies.judging.verdicts import read_settings
from localemp.studies.own_family import own_family
from localemp.studies.stats.bradley_terry import Strength, bradley_terry
from localemp.studies.stats.corrected_win_rates import CorrectedWinRate, corrected_win_rates
from localemp.studies.stats.effective_judges import EffectiveJudges, effective_judges
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.stats.judge_agreement import JudgeAgreement, judge_agreement
from localemp.studies.stats.judge_bias import JudgeBias, judge_bias
from localemp.studies.stats.judged import PairChoice, both_orders
from localemp.studies.stats.leniency import Leniency, leniency
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.stats.rating_bias import RatingBias, rating_bias
from localemp.studies.stats.win_rates import WinRate, length_controlled_win_rates
from localemp.studies.study import JUDGES, Study


@dataclass(frozen=True)
class JudgeCalibration:
    """What is known of one judge.

    Attributes:
        judge: Its name.
        own: The systems that its own model wrote, or one of its family.
        biases: What moves its choices, by aspect; None is all aspects together. Of an A/B test.
        agreements: With people's choices, the same way; empty without people.
        win_rates: Of the systems, over all aspects. Of an A/B test.
        strengths: The same by Bradley and Terry's model.
        people: People's win rates, of the same pairs; empty without people.
        corrected: Win rates corrected by its errors; empty unless people answered some of its pairs, but not all.
        leniency: How it uses the scale, by aspect. Of ratings that people gave, too.
        rating_biases: What moves its ratings, by aspect. Of ratings that people gave, too.
    """

    judge: str
    own: tuple[str, ...] = ()
    biases: Sequence[tuple[str | None, JudgeBias]] = ()
    agreements: Sequence[tuple[str | None, JudgeAgreement]] = ()
    win_rates: Sequence[WinRate] = ()
    strengths: Sequence[Strength] = ()
    people: Sequence[Strength] = ()
    corrected: Sequence[CorrectedWinRate] = ()
    leniency: Sequence[Leniency] = ()
    rating_biases: Sequence[RatingBias] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told: dict[str, Any] = {"judge": self.judge, "own": list(self.own)}
        for name in ("biases", "agreements"):
            told[name] = [{"aspect": aspect, **each.as_dict()} for aspect, each in getattr(self, name)]
        for name in ("win_rates", "strengths", "people", "corrected", "leniency", "rating_biases"):
            told[name] = [each.as_dict() for each in getattr(self, name)]
        return {name: value for name, value in told.items() if value or name in ("judge", "own")}


@dataclass(frozen=True)
class Calibration:
    """What is known of all judges of a study.

    Attributes:
        judges: Each for itself.
        effective: What several are worth together; None for a single one.
    """

    judges: Sequence[JudgeCalibration] = ()
    effective: EffectiveJudges | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "judges": [each.as_dict() for each in self.judges],
            "effective": self.effective and self.effective.as_dict(),
        }


NO_JUDGES = Calibration()


def calibration(
    study: Study,
    judges: Mapping[str, RatingMatrix],
    people: RatingMatrix,
    bootstrap: Bootstrap,
    own: Collection[str] | None = None,
) -> Calibration:
    """Measure the judges of a study.

    Args:
        study: What was judged.
        judges: The answers of each.
        people: Those of people.
        bootstrap: How intervals are made.
        own: The systems that every judge's own model wrote; None for those of each judge's family.

    Raises:
        RunError: A judge's folder is damaged.
    """
    mine = {name: _own(study, name) if own is None else tuple(own) for name in judges}
    if study.manifest.scale is not None:
        found = [_of_ratings(study, name, matrix, people, mine[name], bootstrap) for name, matrix in judges.items()]
        answers = {name: matrix.combined() for name, matrix in judges.items()}
        together = people.combined() if people.raters else None
        dialogues = people.dialogues
    else:
        choices = {name: pair_choices(study, study.folder / JUDGES / name, people) for name in judges}
        found = [_of_choices(study, name, told, mine[name], bootstrap) for name, told in choices.items()]
        answers, together, dialogues = _beside(choices)
    several = effective_judges(answers, together, dialogues, bootstrap) if len(judges) > 1 else None
    return Calibration(found, several)


def _own(study: Study, judge: str) -> tuple[str, ...]:
    return tuple(own_family(study, read_settings(study.folder / JUDGES / judge)))


def _of_choices(
    study: Study, judge: str, choices: Sequence[PairChoice], own: tuple[str, ...], bootstrap: Bootstrap
) -> JudgeCalibration:
    answered = [each for each in choices if each.people is not None]
    aspects = [aspect.name for aspect in study.manifest.aspects]
    parts: list[str | None] = [*aspects, *([None] if len(aspects) > 1 else [])]
    theirs = [replace(each, share=each.people) for each in both_orders(answered) if each.people is not None]
    return JudgeCalibration(
        judge=judge,
        own=own,
        biases=[(aspect, judge_bias(said, own, bootstrap)) for aspect, said in _by(parts, answered or choices)],
        agreements=[(aspect, judge_agreement(said, bootstrap)) for aspect, said in _by(parts, answered)],
        win_rates=length_controlled_win_rates(choices, bootstrap),
        strengths=bradley_terry(choices, bootstrap),
        people=bradley_terry(theirs, bootstrap) if theirs else (),
        corrected=corrected_win_rates(choices, bootstrap) if 0 < len(answered) < len(choices) else (),
    )


def _of_ratings(
    study: Study,
    judge: str,
    matrix: RatingMatrix,
    people: RatingMatrix,
    own: tuple[str, ...],
    bootstrap: Bootstrap,
) -> JudgeCalibration:
    scale = study.manifest.scale or (0, 1)
    rated = [each for each in judged_ratings(study, matrix, people) if each.people]
    return JudgeCalibration(
        judge=judge,
        own=own,
        leniency=leniency(rated, scale, scale, bootstrap),
        rating_biases=rating_bias(rated, own, scale, scale, bootstrap),
    )


def _by(
    parts: Sequence[str | None], choices: Sequence[PairChoice]
) -> Iterator[tuple[str | None, Sequence[PairChoice]]]:
    """Yield the choices of each aspect that has some; None is all aspects."""
    for aspect in parts:
        if said := [choice for choice in choices if aspect in (None, choice.aspect)]:
            yield aspect, said


def _beside(
    choices: Mapping[str, Sequence[PairChoice]],
) -> tuple[dict[str, np.ndarray], np.ndarray | None, list[str]]:
    """Return each judge's shares of the pairs that any of them answered, people's shares, and the pairs' dialogues."""
    averaged = {name: {(each.item, each.aspect): each for each in both_orders(told)} for name, told in choices.items()}
    pairs = {about: each for told in averaged.values() for about, each in told.items()}
    answers = {
        name: np.array([told[about].share if about in told else np.nan for about in pairs], dtype=float)
        for name, told in averaged.items()
    }
    people = [each.people for each in pairs.values()]
    known = np.array([np.nan if share is None else share for share in people], dtype=float)
    return answers, known if np.isfinite(known).any() else None, [each.dialogue for each in pairs.values()]
