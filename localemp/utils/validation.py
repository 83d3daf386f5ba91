"""Forms that files are checked against, and what pydantic finds wrong in them, in words for people."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from localemp.utils.text import one_line

_IN_WORDS = {"extra_forbidden": "unknown key", "missing": "missing key"}
_LONGEST = 400  # characters of a mistake; keys and values are those of the file
_MOST = 5  # mistakes that are told; a file of another kind has no end of them


class Lenient(BaseModel):
    """A part of a file of ours: what is asked of it. Keys that other versions write are left alone."""

    model_config = ConfigDict(strict=True)


def format_validation_error(error: ValidationError, words: Mapping[tuple[str, str], str] = {}) -> str:
    """What is wrong, each mistake once, as "key: what"; entries of a list are counted from 1, `table[2].rows`.

    Args:
        error: What pydantic raised.
        words: (key, pydantic's type of error) -> what to say instead of its own words.
    """
    told = []
    for each in error.errors(include_url=False):
        key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in each["loc"])
        key, kind = key.removeprefix("."), each["type"]
        what = words.get((key, kind)) or _IN_WORDS.get(kind) or each["msg"].removeprefix("Value error, ")
        told.append(one_line(f"{key}: {what}" if key else what, _LONGEST))
    told = list(dict.fromkeys(told))
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return "; ".join(told[:_MOST] + more)
