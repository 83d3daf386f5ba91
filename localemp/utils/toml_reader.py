"""Reads TOML files, limited in depth and size, with one exception for everything that can be wrong."""

import re
import tomllib
from pathlib import Path
from typing import Any

from localemp.utils.files import open_regular
from localemp.utils.json_reader import MAX_DEPTH, is_deeper

LARGEST_FILE = 2**20
"""Largest TOML file, in bytes; people write them by hand."""
# A dotted name with more parts than the deepest nesting; parsing it would take quadratic time.
_DEEP_NAME = re.compile(rf"(?<![\w.-])(?:(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


class TOMLError(ValueError):
    """A text is not usable TOML."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse the bytes of a TOML file; a byte order mark is skipped.

    Raises:
        TOMLError: The text is too large, not UTF-8, not valid TOML, nested too deeply, or has a number with thousands
            of digits.
    """
    if len(content) > LARGEST_FILE:
        raise TOMLError(f"it has more than {LARGEST_FILE // 2**20} MiB")
    try:
        text = content.decode("utf-8-sig")
        if _DEEP_NAME.search(text):
            raise TOMLError(_TOO_DEEP)
        value = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise TOMLError("not valid UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise TOMLError(f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise TOMLError(_TOO_DEEP) from error
    except TOMLError:
        raise
    except ValueError as error:  # the interpreter's limit on the digits of a whole number
        raise TOMLError("it has an invalid number or date") from error
    if is_deeper(value, MAX_DEPTH):
        raise TOMLError(_TOO_DEEP)
    return value


def load_toml(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a TOML file and return its contents, parsed and as bytes.

    Raises:
        OSError: The file cannot be read.
        TOMLError: `parse_toml` rejects it.
    """
    with open_regular(path) as file:
        content = file.read(LARGEST_FILE + 1)
    return parse_toml(content), content
