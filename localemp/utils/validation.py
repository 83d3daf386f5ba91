"""Validation of files with pydantic, and readable messages for its errors."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from localemp.utils.text import one_line

_IN_WORDS = {"extra_forbidden": "unknown key", "missing": "missing key"}
_LONGEST = 400  # characters of one error; keys and values come from the file
_MOST = 5  # errors that are listed; a file of another kind has very many


class Lenient(BaseModel):
    """A schema of localemp's own files. Unknown keys, which other versions write, are allowed."""

    model_config = ConfigDict(strict=True)


def format_validation_error(
    error: ValidationError, words: Mapping[tuple[str, str], str] = {}, *, kinds: Mapping[str, str] = {}
) -> str:
    """Return the distinct errors as "key: problem"; list entries are counted from 1, as in `table[2].rows`.

    Args:
        error: The exception of pydantic.
        words: Replaces pydantic's message, by key and type of the error.
        kinds: The same, by type alone.
    """
    told = []
    for each in error.errors(include_url=False):
        key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in each["loc"])
        key, kind = key.removeprefix("."), each["type"]
        what = (
            words.get((key, kind))
            or kinds.get(kind)
            or _IN_WORDS.get(kind)
            or each["msg"].removeprefix("Value error, ")
        )
        told.append(one_line(f"{key}: {what}" if key else what, _LONGEST))
    told = list(dict.fromkeys(told))
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return "; ".join(told[:_MOST] + more)
