"""Finds the lines of keys in a TOML text, which Python's reader does not tell, for error messages."""

import re
import tomllib
from collections.abc import Mapping

Place = tuple[str | int, ...]
"""Keys from the top of a file, and places in lists from 0: ("stages", 1, "ask")."""

_HEADER = re.compile(r"[ \t]*+(\[\[?+)")
_NAME = re.compile(r"[ \t]*+([A-Za-z0-9_-]++|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+')[ \t]*+")
# One piece of a line: a text (which may have several lines), a comment, a bracket, or anything between them.
_PIECE = re.compile(
    r"\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*+\"{3,5}+|'''(?:[^']|'(?!''))*+'{3,5}+"
    r"|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+'|#[^\n]*+|[\[{]|[\]}]|\n|[^\"'#\[\]{}\n]++|.",
    re.DOTALL,
)


def lines_of_keys(text: str) -> Mapping[Place, int]:
    """Return the line of each table and each key, from 1; what is inside an inline table or a list has none.

    Args:
        text: Valid TOML.
    """
    lines: dict[Place, int] = {}
    last: dict[Place, int] = {}  # the place of the last table in each list of tables
    table: Place = ()
    at, line = 0, 1
    while at < len(text):
        header = _HEADER.match(text, at)
        names, end = _names(text, header.end() if header else at)
        if header and names:
            table = _inner((), names[:-1], last)
            if header[1] == "[[":
                table = (*table, names[-1])
                lines.setdefault(table, line)
                last[table] = last.get(table, -1) + 1
                table = (*table, last[table])
            else:
                table = _inner(table, names[-1:], last)
            lines.setdefault(table, line)
        elif names:
            lines.setdefault((*table, *names), line)
        at, passed = _next_line(text, end)
        line += passed
    return lines


def line_of(place: Place, lines: Mapping[Place, int]) -> int | None:
    """Return the line of a place, or of the nearest key or table around it; None if none is known."""
    return next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), None)


def _inner(table: Place, names: list[str], last: Mapping[Place, int]) -> Place:
    """Return a table within a table; in a list of tables, the last one counts."""
    for name in names:
        table = (*table, name)
        if table in last:
            table = (*table, last[table])
    return table


def _names(text: str, at: int) -> tuple[list[str], int]:
    """Return the names of a dotted key, and where it ends; no names if none is there."""
    names: list[str] = []
    while found := _NAME.match(text, at):
        name = found[1]
        names.append(next(iter(tomllib.loads(f"{name} = 0"))) if name[0] in "\"'" else name)
        at = found.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return names, at


def _next_line(text: str, at: int) -> tuple[int, int]:
    """Return where the line after a key and its value begins, and how many line ends are passed."""
    depth = passed = 0
    while found := _PIECE.match(text, at):
        piece, at = found[0], found.end()
        passed += piece.count("\n")
        if piece == "\n" and not depth:
            break
        if piece in ("[", "{"):
            depth += 1
        elif piece in ("]", "}"):
            depth = max(0, depth - 1)  # that of a header has no partner here
    return at, passed
