"""Text that others wrote: made storable where it enters, and harmless where it is shown."""

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
# All control characters but tab and line feed, the marks that turn the direction of what is shown after them, and what
# no terminal can be sent: unpaired surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def is_well_formed(text: str) -> bool:
    """Whether no an unpaired surrogate is in a text: JSON can hold one, files and hashes cannot."""
    return text.isascii() or _SURROGATE.search(text) is None


def well_formed(text: str) -> str:
    """The text with surrogate pairs joined, and U+FFFD in place of halves that have lost their other half."""
    return text if is_well_formed(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class PairJoiner:
    """Makes a text well-formed that comes bit by bit: the halves of a pair may come in two bits."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str, last: bool = False) -> str:
        """What is certain now; `last` where nothing more comes."""
        text, self._half = self._half + text, ""
        if text and not last and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return well_formed(text)


def for_terminal(text: str) -> str:
    r"""The text with control characters written out ("\x1b"), so that a terminal shows them and does not obey."""
    return _CONTROL.sub(lambda found: _written_out(found[0]), text)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that a terminal shows and does not obey; the same value for whoever reads it.

    Args:
        value: Without NaN and infinite numbers, which are no JSON.
        indent: Spaces of each level; all is in one line where it is None.
    """
    written = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def one_line(text: str, longest: int = 200) -> str:
    """A text in one line, white space pressed together, cut with "…" after so many characters, nothing to be obeyed."""
    # What is cut need not be looked at: a text may have megabytes.
    line = for_terminal(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[: longest - 1]}…"


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
