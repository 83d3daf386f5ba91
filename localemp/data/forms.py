"""Recognises the form of a file of records by the keys of its first one, from the beginning of the file alone."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from localemp.data.columns import example_of
from localemp.data.records import TABLE, beginning
from localemp.errors import DataError
from localemp.utils.files import is_file
from localemp.utils.text import one_line

OWN, ESCONV, MESSAGES, UTTERANCES = "localemp's own", "ESConv", "ShareGPT or OpenAI messages", "EmpatheticDialogues"

FORMS: Mapping[str, tuple[str, ...]] = {
    OWN: ("turns",),
    ESCONV: ("dialog",),
    MESSAGES: ("messages", "conversations", "conversation"),
    UTTERANCES: ("utterance",),
}
"""The keys that tell a form; one of them is enough."""

_MOST_KEYS = 1_000
# A text, closed or cut off, or a sign; possessive, so that it runs in linear time.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+("|\\?\Z)|[\[\]{}:,]', re.DOTALL)


def form_of(path: Path) -> str | None:
    """Return the form of a file: a key of `FORMS`; None if it is unknown, or if keys of several forms are there.

    Raises:
        DataError: The file cannot be read.
    """
    found = _forms(first_keys(path))
    return found[0] if len(found) == 1 else None


def unknown_form(path: Path) -> DataError | None:
    """Return the error of a file whose first record has keys, but those of no form or of several; else None."""
    keys = first_keys(path)
    found = _forms(keys)
    if not keys or len(found) == 1:
        return None
    listed = one_line(", ".join(keys))
    hint = "; ".join(f"{form} has {' or '.join(marks)}" for form, marks in FORMS.items())
    why = f"keys of several forms ({', '.join(found)})" if found else "an unknown form"
    return DataError(
        path,
        f"{why}: the keys of the first record are {listed}",
        f"say what they are: {example_of(list(keys))} (docs/data.md); or use a form: {hint}",
    )


def _forms(keys: Mapping[str, str]) -> list[str]:
    """Return the forms that these keys tell. "turns" decides alone: our own records may have any other keys."""
    if "text" in keys:  # the hub's files of ESConv hold each talk as a text of its own
        keys = {**_keys(keys["text"]), **keys}
    if FORMS[OWN][0] in keys:
        return [OWN]
    return [form for form, marks in FORMS.items() if any(mark in keys for mark in marks)]


def first_keys(path: Path) -> Mapping[str, str]:
    """Return the keys of the first record of a file, each with its value if that is a text, else "".

    What is not a regular file has none: a pipe can be read only once. Nor has what does not begin like JSON.

    Raises:
        DataError: The file cannot be read.
    """
    if path.suffix == TABLE and is_file(path):
        from localemp.data.parquet import first_row

        return first_row(path)
    return _keys(beginning(path))


def _keys(text: str) -> dict[str, str]:
    """Return the keys of an object, or of the first one of a list, and its texts; the text may be cut off."""
    found: dict[str, str] = {}
    text = text.lstrip()
    wanted, depth, key, last = 2 if text.startswith("[") else 1, 0, "", ""
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign[0] == '"':
            if token[1] != '"':
                break
            if depth == wanted and key:
                found[key] = _text(sign)
            last = sign
        elif sign == ":" and depth == wanted:
            key = _text(last)
            found.setdefault(key, "")
            if len(found) > _MOST_KEYS:
                break
        elif sign in "[{":
            depth += 1
            if depth == wanted and sign != "{":
                break
            key = "" if depth > wanted else key
        elif sign in "]}":
            depth -= 1
            if depth < wanted:
                break
        elif depth == wanted:
            key = ""
    return found


def _text(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return ""
