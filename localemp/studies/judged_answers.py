"""What judges answered beside what people did, as the rows that the statistics of judges take."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

import numpy as np

from localemp.errors import RunError
from localemp.runs.journal import newest, read_lines
from localemp.runs.judge_answers import VOTES, check_answer, first_share
from localemp.studies.stats.judged import JudgedRating, PairChoice
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.study import Study
from localemp.studies.votes import quoted


def pair_choices(study: Study, folder: Path, people: RatingMatrix) -> list[PairChoice]:
    """Return a judge's choices of an A/B study, each order that a pair was shown in for itself.

    Attention checks and answers that cannot be read are left out. Votes on one question are averaged, as are people's.

    Args:
        study: What was judged.
        folder: The judge's.
        people: People's answers.

    Raises:
        RunError: A line is damaged, or about something that the study does not ask.
    """
    words, preferred = _words(study), _people_for(people)
    shares: dict[tuple[str, str, tuple[str, ...]], list[float]] = {}
    for record in newest(read_lines(folder / VOTES, check_answer)):
        if "error" in record or record["item"] in study.key.checks or (share := first_share(record)) is None:
            continue
        shown = tuple(record["shown"])
        if not _is_asked(study, record["item"], record["aspect"], shown):
            what = f"it answers {quoted(record['item'])}, {quoted(record['aspect'])}, {quoted(' and '.join(shown))}"
            raise RunError(f"{folder} does not belong to this study: {what}", "take the folder away")
        shares.setdefault((record["item"], record["aspect"], shown), []).append(share)
    return [
        PairChoice(
            dialogue=study.key.dialogues[item],
            aspect=aspect,
            first=study.key.systems[first],
            second=study.key.systems[second],
            first_length=words[first],
            second_length=words[second],
            share=fmean(told),
            people=_share(preferred, aspect, first, second),
            item=item,
        )
        for (item, aspect, (first, second)), told in shares.items()
    ]


def _is_asked(study: Study, item: str, aspect: str, shown: tuple[str, ...]) -> bool:
    replies = [reply.key for reply in study.by_id[item].replies] if item in study.by_id else []
    return sorted(shown) == sorted(replies) and aspect in [each.name for each in study.manifest.aspects]


def judged_ratings(study: Study, judge: RatingMatrix, people: RatingMatrix) -> list[JudgedRating]:
    """Return a judge's ratings of a study of kind "rating", each beside those of people."""
    words, said = _words(study), dict(_each(people))
    return [
        JudgedRating(
            dialogue=unit.dialogue,
            item=unit.item,
            aspect=unit.aspect,
            system=unit.group,
            judge=float(value),
            people=said.get((unit.aspect, unit.reply), ()),
            length=words[unit.reply],
        )
        for unit, value in zip(judge.units, judge.combined(), strict=True)
        if np.isfinite(value)
    ]


def _people_for(people: RatingMatrix) -> dict[tuple[str, str], float]:
    """Return people's share for the first system's reply of each A/B item, by aspect and the reply's key."""
    return {about: (1 + fmean(values)) / 2 for about, values in _each(people) if values}


def _share(preferred: Mapping[tuple[str, str], float], aspect: str, first: str, second: str) -> float | None:
    if (share := preferred.get((aspect, first))) is not None:
        return share
    other = preferred.get((aspect, second))
    return None if other is None else 1 - other


def _each(people: RatingMatrix) -> Iterator[tuple[tuple[str, str], tuple[float, ...]]]:
    for unit, values in zip(people.units, people.values.T, strict=True):
        yield (unit.aspect, unit.reply), tuple(float(value) for value in values[np.isfinite(values)])


def _words(study: Study) -> Mapping[str, int]:
    """Return how many words each reply has, separated by white space."""
    return {reply.key: len(reply.text.split()) for item in study.items for reply in item.replies}
