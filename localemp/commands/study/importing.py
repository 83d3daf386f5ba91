"""`study.import_`: read ratings that were made elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localemp.studies.privacy import open_study
from localemp.studies.study import ANSWERS
from localemp.utils.paths import StrPath, paths_of

if TYPE_CHECKING:
    from localemp.studies.votes import Vote


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Ratings that were imported.

    Attributes:
        votes: The ratings.
        replaced: How many of them replaced another answer of an earlier import.
        unrated: Aspects of the study that no rating is about.
    """

    votes: "tuple[Vote, ...]"
    replaced: int
    unrated: tuple[str, ...]


def import_(
    study: StrPath, files: StrPath | Iterable[StrPath], *, column: Mapping[str, str] | None = None
) -> ImportResult:
    """Take ratings from files of comma-separated values, all of them or none. The newest import of an answer counts.

    Args:
        study: The study's folder.
        files: With columns rater, item (or dialogue), and aspect and value, or one column for each aspect; reply or
            system says what was rated. docs/studies.md has the form.
        column: Our name of a column or aspect, and the file's.

    Raises:
        DataError: A file cannot be read, or breaks a rule; file and line are named.
        UnknownNameError: There is no such column.
        RunError: The folder holds no study.
    """
    from localemp.studies.answers import AnswerStore
    from localemp.studies.importing import keep_ratings, read_ratings

    rated = open_study(Path(study))
    votes = [vote for file in paths_of(files) for vote in read_ratings(file, rated, column)]
    answers = AnswerStore(Path(study) / ANSWERS, rated)
    try:
        replaced = keep_ratings(answers, votes)
    finally:
        answers.close()
    voted = {vote.aspect for vote in votes}
    unrated = tuple(aspect.name for aspect in rated.manifest.aspects if aspect.name not in voted)
    return ImportResult(tuple(votes), replaced, unrated)
