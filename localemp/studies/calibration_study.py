"""A study of replies that people have rated, with their ratings as its imported answers: what a judge is measured on.

In a study of kind "rating" a person's rating is an answer as it is. In one of kind "ab" preferences follow from the
ratings, aspect by aspect: of the two replies of an item a person prefers the one that they rated higher, and equal
ratings are a tie. Where nobody rated both, the higher mean rating of the raters decides, as one answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from localemp.errors import OptionError, RunError
from localemp.studies.answers import AnswerStore
from localemp.studies.create import SAMPLE, create_study
from localemp.studies.importing import keep_ratings
from localemp.studies.rated_items import RatedItems, Rating
from localemp.studies.schema import TIE, Item, Key, Kind
from localemp.studies.study import ANSWERS, STUDY, Study
from localemp.studies.votes import Vote
from localemp.utils.files import is_file
from localemp.utils.formatting import share

MEAN = "mean of the raters"
"""The rater whose answers follow from mean ratings."""


def calibration_study(
    folder: Path, rated: RatedItems, kind: Kind, *, sample: int | None = None, seed: int = 0
) -> tuple[Study, list[str]]:
    """Make a study of rated replies with people's ratings as answers, or return the one that was made of them before.

    Args:
        folder: Of the study.
        rated: Replies and ratings.
        kind: Of the study.
        sample: Dialogues to draw; 100 by default, or all where there are fewer.
        seed: Of the dialogues that are drawn.

    Returns:
        The study, and what a reader needs to know.

    Raises:
        OptionError: Too few systems, no dialogue in all of them, or no rating of what was drawn.
        RunError: The folder has a study of other ratings or settings, or cannot be written.
    """
    made_of = {"sha256": rated.sha256, "sample": sample or SAMPLE, "seed": seed}
    if is_file(folder / STUDY):
        study, notes = Study.read(folder), list[str]()
        _check_same(study, kind, made_of)
    else:
        systems = [replace(each, source={**each.source, "calibration": made_of}) for each in rated.systems]
        study, notes = create_study(folder, systems, kind, rated.asked, sample=sample, seed=seed)
    votes, derived = answers_of(study, rated.ratings)
    if not votes:
        raise OptionError("nobody rated a reply of a dialogue that all systems answered", "rate more of them")
    answers = AnswerStore(folder / ANSWERS, study)
    try:
        keep_ratings(answers, votes)
    finally:
        answers.close()
    return study, [*notes, *rated.notes, *derived]


def answers_of(study: Study, ratings: Sequence[Rating]) -> tuple[list[Vote], list[str]]:
    """Return people's answers to a study as their ratings have them, and how they were had."""
    of_reply: dict[tuple[str, str, str], dict[str, int]] = {}
    for rating in ratings:
        of_reply.setdefault((rating.dialogue, rating.system, rating.aspect), {})[rating.rater] = rating.value
    if study.manifest.kind == "rating":
        return list(_ratings(study.items, study.key, of_reply)), []
    votes = list(_preferences(study, of_reply))
    pairs = len({(vote.item, vote.aspect) for vote in votes})
    if not (means := sum(vote.rater == MEAN for vote in votes)):
        return votes, []
    told = f"nobody rated both replies of {share(means, pairs, 'pair')}, each aspect for itself: there the higher mean"
    return votes, [f"{told} rating is people's preference"]


def _ratings(
    items: Sequence[Item], key: Key, of_reply: Mapping[tuple[str, str, str], Mapping[str, int]]
) -> Iterator[Vote]:
    by_reply: dict[tuple[str, str], list[tuple[str, Mapping[str, int]]]] = {}
    for (dialogue, system, aspect), values in of_reply.items():
        by_reply.setdefault((dialogue, system), []).append((aspect, values))
    for item in items:
        for reply in item.replies:
            for aspect, values in by_reply.get((key.dialogues[item.id], key.systems[reply.key]), ()):
                for rater, value in values.items():
                    yield Vote(rater, item.id, aspect, value, reply.key, kind="import")


def _preferences(study: Study, of_reply: Mapping[tuple[str, str, str], Mapping[str, int]]) -> Iterator[Vote]:
    key = study.key
    for item in study.items:
        one, other = item.replies
        for aspect in study.manifest.aspects:
            mine, theirs = (
                of_reply.get((key.dialogues[item.id], key.systems[reply.key], aspect.name), {})
                for reply in (one, other)
            )
            if not (mine and theirs):
                continue
            both = {rater: (mine[rater], theirs[rater]) for rater in mine if rater in theirs}
            compared: Mapping[str, tuple[float, float]] = both or {MEAN: (fmean(mine.values()), fmean(theirs.values()))}
            for rater, (value, against) in compared.items():
                higher = one if value > against else other
                better = TIE if value == against else higher.key
                yield Vote(rater, item.id, aspect.name, better, kind="import")


def _check_same(study: Study, kind: Kind, made_of: Mapping[str, Any]) -> None:
    """Check that a study is of these ratings and settings."""
    known = next(iter(study.key.sources.values())).get("calibration")
    hint = "choose another --out"
    if not isinstance(known, dict):
        raise RunError(f"{study.folder} is a study that was made otherwise", f"name it as STUDY, or {hint}")
    now = {"kind": kind, **made_of}
    before = {"kind": study.manifest.kind, **known}
    if changed := [name for name in now if before.get(name) != now[name]]:
        what = {"sha256": "other ratings, replies or aspects"}
        told = [what.get(name, f"--{name} {before.get(name)}, not {now[name]}") for name in changed]
        raise RunError(f"{study.folder} was made with {', '.join(told)}", hint)
