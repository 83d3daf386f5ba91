"""Makes untrusted text safe: well-formed for storage, harmless for display."""

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters except tab and line feed, marks that change the text direction, and unpaired surrogates, which
# cannot be sent to a terminal.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def is_well_formed(text: str) -> bool:
    """Return whether a text has no unpaired surrogate: JSON can hold one, files and hashes cannot."""
    return text.isascii() or _SURROGATE.search(text) is None


def well_formed(text: str) -> str:
    """Return the text with surrogate pairs joined, and unpaired surrogates replaced by U+FFFD."""
    return text if is_well_formed(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class PairJoiner:
    """Makes a streamed text well-formed: the halves of a surrogate pair may come in two pieces."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str, last: bool = False) -> str:
        """Take a piece of text, and return what is certain; `last` marks the final piece."""
        text, self._half = self._half + text, ""
        if text and not last and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return well_formed(text)


def for_terminal(text: str) -> str:
    r"""Escape control characters ("\x1b"), so that a terminal shows them instead of executing them."""
    return _CONTROL.sub(lambda found: _written_out(found[0]), text)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON with control characters escaped, so that it is safe for terminals.

    Args:
        value: A value without NaN and infinite numbers, which are not valid JSON.
        indent: Spaces per level; None for a single line.
    """
    written = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def one_line(text: str, longest: int = 200) -> str:
    """Return a text in one line for display: white space collapsed, truncated with "…", control characters escaped."""
    # A text may have megabytes; most of it is cut off anyway.
    line = for_terminal(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[: longest - 1]}…"


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
