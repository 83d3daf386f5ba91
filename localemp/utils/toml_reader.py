"""The one reader of TOML files: bounded as JSON is, with one exception for all that can be wrong."""

import re
import tomllib
from pathlib import Path
from typing import Any

from localemp.utils.files import open_regular
from localemp.utils.json_reader import MAX_DEPTH, is_deeper

LARGEST_FILE = 2**20
"""Bytes of a TOML file; people write them by hand."""
# A dotted name of more parts than may be inside one another; reading its parts would take quadratic time.
_DEEP_NAME = re.compile(rf"(?<![\w.-])(?:(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


class TOMLError(ValueError):
    """A text that is no usable TOML."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Read a TOML file's bytes; a byte order mark is passed over.

    Raises:
        TOMLError: It is too large, not UTF-8, not TOML, nested too deeply, or holds a number of thousands of digits.
    """
    if len(content) > LARGEST_FILE:
        raise TOMLError(f"it has more than {LARGEST_FILE // 2**20} MiB")
    try:
        text = content.decode("utf-8-sig")
        if _DEEP_NAME.search(text):
            raise TOMLError(_TOO_DEEP)
        value = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise TOMLError("not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise TOMLError(f"not TOML: {error}") from error
    except RecursionError as error:
        raise TOMLError(_TOO_DEEP) from error
    except TOMLError:
        raise
    except ValueError as error:  # the interpreter's limit on the digits of a whole number
        raise TOMLError("it holds a number or a date that is none") from error
    if is_deeper(value, MAX_DEPTH):
        raise TOMLError(_TOO_DEEP)
    return value


def load_toml(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a TOML file: what it says, and its bytes.

    Raises:
        OSError: It cannot be read.
        TOMLError: See `parse_toml`.
    """
    with open_regular(path) as file:
        content = file.read(LARGEST_FILE + 1)
    return parse_toml(content), content
