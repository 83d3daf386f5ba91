"""Read all answers to a study: from people, imported files and judges."""

from pathlib import Path

from localemp.errors import OptionError, RunError
from localemp.studies.answers import AnswerStore
from localemp.studies.judging.verdicts import read_judge, read_settings
from localemp.studies.study import ANSWERS, JUDGES, Study
from localemp.studies.votes import Vote, check_vote
from localemp.utils.redaction import redact_settings


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
