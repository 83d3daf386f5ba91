"""All answers to a study, from people, files and judges, and who missed its attention checks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localemp.errors import OptionError, RunError
from localemp.studies.answers import AnswerStore
from localemp.studies.judging.verdicts import read_judge, read_settings
from localemp.studies.study import ANSWERS, JUDGES, Study
from localemp.studies.votes import RaterKind, Vote, check_vote
from localemp.utils.redaction import redact_settings


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A rater's result on the attention checks.

    Attributes:
        rater: The name.
        kind: Of the rater.
        missed: Checks with an answer that nobody gives who reads.
        of: Checks that the rater answered.
    """

    rater: str
    kind: RaterKind
    missed: int
    of: int

    @property
    def failed(self) -> bool:
        """Whether half or more of the checks were missed."""
        return self.missed > 0 and 2 * self.missed >= self.of


def read_votes(study: Study) -> list[Vote]:
    """Read the votes of people, of imported files, and of every judge.

    Raises:
        RunError: The answers cannot be read, or are to another study.
    """
    votes = []
    if (path := study.folder / ANSWERS).exists():
        answers = AnswerStore(path, study)
        try:
            votes += answers.votes()
        finally:
            answers.close()
    for folder in sorted((study.folder / JUDGES).glob("*/")):
        votes += _judge(study, folder)
    return votes


def check_results(study: Study, votes: Iterable[Vote]) -> list[CheckResult]:
    """Return the result of every rater who answered a check, in order of arrival."""
    right: dict[tuple[RaterKind, str], dict[str, bool]] = {}
    for vote in votes:
        expected = study.key.checks.get(vote.item, {}).get(vote.aspect)
        if expected is not None:
            met = vote.value in expected if isinstance(expected, list) else vote.value == expected
            items = right.setdefault((vote.kind, vote.rater), {})
            items[vote.item] = items.get(vote.item, True) and met
    return [
        CheckResult(rater, kind, sum(not met for met in items.values()), len(items))
        for (kind, rater), items in right.items()
    ]


def _judge(study: Study, folder: Path) -> list[Vote]:
    votes = read_judge(folder)
    try:
        for vote in votes:
            check_vote(study, vote)
    except OptionError as error:
        raise RunError(f"{folder} does not belong to this study: {error.message}", "take the folder away") from error
    if votes:
        _check_asked(study, folder)
    return votes


def _check_asked(study: Study, folder: Path) -> None:
    """Check that the judge was asked what the study asks now."""
    settings = read_settings(folder)
    asked = {**settings, "items": settings.get("items_sha256")}
    now = redact_settings(study.fingerprint)  # as manifests are read
    if changed := [name for name in now if name in asked and asked[name] != now[name]]:
        raise RunError(
            f"{study.folder}: the study was changed after {folder.name} judged it ({', '.join(changed)})",
            f"restore its files, or take {folder} away",
        )
