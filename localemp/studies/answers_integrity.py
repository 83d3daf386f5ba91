"""Check the rows of an answers file: SQLite stores any value in any column, so damage can go unnoticed."""

import sqlite3
from pathlib import Path
from typing import Any

from localemp.errors import OptionError, RunError
from localemp.studies.database import RESTORE
from localemp.studies.study import Study
from localemp.studies.votes import Vote, check_vote
from localemp.utils.json_reader import JSONError, parse_json

_STRANGE_RATER = """
SELECT id FROM raters WHERE typeof(name) != 'text' OR typeof(token_sha256) NOT IN ('text', 'null')
OR typeof(kind) != 'text' OR kind NOT IN ('person', 'owner', 'import')
"""
_STRANGE_ANSWER = """
SELECT id FROM given WHERE typeof(item) != 'text' OR typeof(aspect) != 'text' OR typeof(reply) != 'text'
OR typeof(value) NOT IN ('text', 'integer') OR typeof(first) != 'text' OR typeof(at) != 'text'
OR NOT (seconds IS NULL OR typeof(seconds) IN ('integer', 'real') AND abs(seconds) < 1e12)
"""
_KINDS = "SELECT DISTINCT item, aspect, value, reply FROM given"


def stored_fingerprint(connection: sqlite3.Connection, path: Path) -> dict[str, Any] | None:
    """Return the study's fingerprint at the first answer; None if there is no answer yet.

    Raises:
        RunError: It cannot be read.
        sqlite3.Error: The file cannot be read.
    """
    if (row := connection.execute("SELECT made_of FROM study").fetchone()) is None:
        return None
    try:
        told = parse_json(row[0]) if isinstance(row[0], str) else None
    except JSONError:
        told = None
    if not isinstance(told, dict):
        raise RunError(f"{path}: what it answers is damaged", RESTORE)
    return told


def check_rows(connection: sqlite3.Connection, path: Path, study: Study) -> None:
    """Check that every row is valid, so that later reads need no checks.

    Raises:
        RunError: One is of another type, or answers what the study does not ask.
        sqlite3.Error: The file cannot be read.
    """
    for what, query in (("rater", _STRANGE_RATER), ("answer", _STRANGE_ANSWER)):
        if row := connection.execute(query).fetchone():
            raise RunError(f"{path}: {what} {row[0]} is damaged", RESTORE)
    try:
        for row in connection.execute(_KINDS):
            check_vote(study, Vote("", *row))
    except OptionError as error:
        raise RunError(f"{path}: an answer is damaged: {error.message}", RESTORE) from error
