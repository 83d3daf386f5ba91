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
    r"|\"(?:[^\"\\\n]|\\.)*+\"|'[^'\n]*+'|#[^\n]*+|[\[\]{},\n]|[ \t\r]++|[^\"'#\[\]{},\s]++|.",
    re.DOTALL,
)


def lines_of_keys(text: str) -> Mapping[Place, int]:
    """Return the line of each table, each key and each entry of a list, from 1.

    Args:
        text: Valid TOML.
    """
    lines: dict[Place, int] = {}
    last: dict[Place, int] = {}  # the place of the last table in each list of tables
    table: Place = ()
    at, line = 0, 1
    while at < len(text):
        header = _HEADER.match(text, at)
        names, at = _names(text, header.end() if header else at)
        if header:
            table = _inner((), names[:-1], last)
            if header[1] == "[[":
                table = (*table, names[-1])
                lines.setdefault(table, line)
                last[table] = last.get(table, -1) + 1
                table = (*table, last[table])
            else:
                table = _inner(table, names[-1:], last)
            lines.setdefault(table, line)
            at, line = text.find("\n", at) + 1 or len(text), line + 1
        else:
            place = (*table, *names)
            if names:
                lines.setdefault(place, line)
            at, line = _value(text, at, line, place, lines)
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


def _value(text: str, at: int, line: int, place: Place, lines: dict[Place, int]) -> tuple[int, int]:
    """Note the lines of everything inside a value; return where the next line of the file begins, and its number.

    Args:
        text: The file.
        at: Where the value begins, or before it.
        line: The line of that.
        place: The place of the value.
        lines: Lines by place, which are added to.
    """
    outer: list[tuple[Place, int | None]] = []  # lists and tables that are open; of a list, the entry that is read
    while found := _PIECE.match(text, at):
        piece, at = found[0], found.end()
        if piece == "\n" and not outer:
            return at, line + 1
        if not piece.isspace() and piece[0] not in "#,]}":
            lines.setdefault(place, line)
        if piece in ("[", "{"):
            outer.append((place, 0 if piece == "[" else None))
        elif piece in ("]", "}"):
            place, _ = outer.pop()
        elif piece == "," and outer:
            inside, entry = outer[-1]
            outer[-1] = inside, None if entry is None else entry + 1
        if piece in ("[", "{", ",") and outer:
            inside, entry = outer[-1]
            names, at = ([], at) if entry is not None else _names(text, at)
            place = (*inside, *names) if entry is None else (*inside, entry)
            if names:
                lines.setdefault(place, line)
        line += piece.count("\n")
    return len(text), line
