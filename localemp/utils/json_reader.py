"""The one reader of JSON that comes from outside: bounded in depth and size, with an error that says where.

Python's own reader ends in four different exceptions (a `JSONDecodeError`, a plain `ValueError` for a number of 5,000
digits, a `UnicodeDecodeError`, a `RecursionError`), and what it reads at a depth of 900 cannot be written again.
"""

import json
import re
from pathlib import Path
from typing import Any

from localemp.utils.files import open_regular
from localemp.utils.text import is_well_formed

MAX_DEPTH = 100
"""Lists and objects inside one another; what people and servers write stays below 20."""

LARGEST_FILE = 256 * 2**20
"""Bytes of a JSON file that is read as a whole."""


_PIECE = 2**16
_SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]|\d[eE]\+?\d{3}|\d{309}")


class JSONError(ValueError):
    """A text that is no usable JSON.

    Attributes:
        line: 1-based line of the text where it went wrong, None where the whole text is meant.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_json(
    text: str | bytes, max_depth: int = MAX_DEPTH, max_values: int | None = None, storable: bool = False
) -> Any:
    """Read one JSON value.

    Args:
        text: Bytes are UTF-8; a byte order mark is passed over.
        max_depth: Most lists and objects inside one another.
        max_values: Most values in all, for texts of strangers: a megabyte can hold half a million lists, which take
            half a second in which nothing else runs.
        storable: Whether what cannot be written again is refused: NaN and infinite numbers, which are no JSON, and
            halves of surrogate pairs, which neither files nor terminals take.

    Raises:
        JSONError: It is empty, not UTF-8, not JSON, nested too deeply, or holds a number of thousands of digits or too
            many values.
    """
    if max_values is not None and count_values(text) > max_values:
        raise JSONError(f"it holds more than {max_values:,} values")
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        value = json.loads(text, parse_constant=_refuse if storable else None)
    except JSONError:
        raise
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JSONError("it is empty") from error
        raise JSONError(f"not JSON: {error.msg} at character {error.colno}", error.lineno) from error
    except UnicodeDecodeError as error:
        raise JSONError("not UTF-8 text") from error
    except RecursionError as error:
        raise JSONError(_too_deep(max_depth)) from error
    except ValueError as error:  # the interpreter's limit on the digits of a whole number
        raise JSONError("it holds a number with too many digits") from error
    # Most texts have too few brackets to be deep, so that nothing needs to be walked.
    if text.count("[") + text.count("{") > max_depth and is_deeper(value, max_depth):
        raise JSONError(_too_deep(max_depth))
    # Whole pairs and finite numbers may look so, too.
    if storable and _SUSPICIOUS.search(text):
        check_storable(value)
    return value


def count_values(text: str | bytes) -> int:
    """How many values a text holds at most, without reading it: signs inside strings count, too."""
    if isinstance(text, bytes):
        return text.count(b",") + text.count(b"[") + text.count(b"{") + 1
    return text.count(",") + text.count("[") + text.count("{") + 1


def load_json(path: Path, largest: int = LARGEST_FILE, storable: bool = False) -> Any:
    """Read a file that is one JSON value.

    Args:
        path: A UTF-8 file.
        largest: Bytes that it may have.
        storable: As in `parse_json`.

    Raises:
        OSError: It cannot be read.
        JSONError: It is too large, or see `parse_json`.
    """
    content = bytearray()
    with open_regular(path) as file:
        while piece := file.read(_PIECE):  # room for all that may be there would be taken at once
            content += piece
            if len(content) > largest:
                raise JSONError(f"it has more than {largest // 2**20} MiB")
    return parse_json(bytes(content), storable=storable)


def is_deeper(value: Any, limit: int) -> bool:
    """Whether more than `limit` lists and objects are inside one another; level by level, without recursion."""
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
    raise JSONError(f"it holds {constant}, which is no number")


def check_storable(value: Any) -> None:
    """Raise JSONError where a value cannot be written again; see `parse_json`."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise JSONError("it holds a number beyond all bounds") from error
    if not is_well_formed(written):
        raise JSONError("it holds half of a surrogate pair, which no file can store")


def _too_deep(limit: int) -> str:
    return f"it is nested more than {limit} levels deep"


def kind_of(value: Any) -> str:
    """What a JSON value is, in words: "a number", "null"."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
