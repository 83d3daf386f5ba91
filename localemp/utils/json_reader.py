"""Reads JSON from untrusted sources: limited in depth and size, with one exception that gives the line.

Python's reader raises four different exceptions (`JSONDecodeError`, a plain `ValueError` for a number of 5,000 digits,
`UnicodeDecodeError`, `RecursionError`), and it reads values at a depth of 900 that cannot be written again.
"""

import json
import re
from pathlib import Path
from typing import Any

from localemp.utils.files import open_regular
from localemp.utils.text import is_well_formed

MAX_DEPTH = 100
"""Deepest nesting of lists and objects; people and servers stay below 20."""

LARGEST_FILE = 256 * 2**20
"""Largest JSON file that is read as a whole, in bytes."""


_PIECE = 2**16
_SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]|\d[eE]\+?\d{3}|\d{309}")


class JSONError(ValueError):
    """A text is not usable JSON.

    Attributes:
        line: Line of the error, from 1; None for the whole text.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_json(
    text: str | bytes, max_depth: int = MAX_DEPTH, max_values: int | None = None, storable: bool = False
) -> Any:
    """Parse one JSON value.

    Args:
        text: Bytes are decoded as UTF-8; a byte order mark is skipped.
        max_depth: Deepest nesting of lists and objects.
        max_values: Most values, for untrusted texts: a megabyte can hold half a million lists, and parsing them blocks
            the process for half a second.
        storable: Whether to reject what cannot be written again: NaN and infinite numbers, which are not valid JSON,
            and unpaired surrogates, which neither files nor terminals accept.

    Raises:
        JSONError: The text is empty, not UTF-8, not valid JSON, nested too deeply, or has a number with thousands of
            digits or too many values.
    """
    if max_values is not None and count_values(text) > max_values:
        raise JSONError(f"it has more than {max_values:,} values")
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        value = json.loads(text, parse_constant=_refuse if storable else None)
    except JSONError:
        raise
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JSONError("it is empty") from error
        raise JSONError(f"not valid JSON: {error.msg} at character {error.colno}", error.lineno) from error
    except UnicodeDecodeError as error:
        raise JSONError("not valid UTF-8") from error
    except RecursionError as error:
        raise JSONError(_too_deep(max_depth)) from error
    except ValueError as error:  # the interpreter's limit on the digits of a whole number
        raise JSONError("it has a number with too many digits") from error
    # Most texts have too few brackets to be deep; they need no walk.
    if text.count("[") + text.count("{") > max_depth and is_deeper(value, max_depth):
        raise JSONError(_too_deep(max_depth))
    # Paired surrogates and finite numbers also match.
    if storable and _SUSPICIOUS.search(text):
        check_storable(value)
    return value


def count_values(text: str | bytes) -> int:
    """Return an upper bound of the number of values, without parsing; signs inside strings count, too."""
    if isinstance(text, bytes):
        return text.count(b",") + text.count(b"[") + text.count(b"{") + 1
    return text.count(",") + text.count("[") + text.count("{") + 1


def load_json(path: Path, largest: int = LARGEST_FILE, storable: bool = False) -> Any:
    """Read a file that holds one JSON value.

    Args:
        path: A UTF-8 file.
        largest: Largest size, in bytes.
        storable: As in `parse_json`.

    Raises:
        OSError: The file cannot be read.
        JSONError: The file is too large, or `parse_json` rejects it.
    """
    content = bytearray()
    with open_regular(path) as file:
        while piece := file.read(_PIECE):  # one large read would allocate its whole size at once
            content += piece
            if len(content) > largest:
                raise JSONError(f"it has more than {largest // 2**20} MiB")
    return parse_json(bytes(content), storable=storable)


def load_object(path: Path) -> dict[str, Any]:
    """Read a file that is one JSON object; raises as `load_json` does, and JSONError if it is another value."""
    value = load_json(path)
    if not isinstance(value, dict):
        raise JSONError(f"{kind_of(value)} instead of an object")
    return value


def is_deeper(value: Any, limit: int) -> bool:
    """Return whether lists and objects are nested more than `limit` levels deep, without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _refuse(constant: str) -> None:
    raise JSONError(f"it has {constant}, which is not a number")


def check_storable(value: Any) -> None:
    """Raise JSONError if a value cannot be written again; see `parse_json`."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise JSONError("it has a number that is out of range") from error
    if not is_well_formed(written):
        raise JSONError("it has an unpaired surrogate, which no file can store")


def _too_deep(limit: int) -> str:
    return f"it is nested more than {limit} levels deep"


def kind_of(value: Any) -> str:
    """Return the type of a JSON value in words: "a number", "null"."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
