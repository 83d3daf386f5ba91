"""Reads one JSON list item by item, from pieces of its text: a data set of hundreds of megabytes may be one list."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.lines import LONGEST_LINE

LONGEST_ITEM = LONGEST_LINE
"""Longest text of an item, in characters; that of a line of JSON lines."""

_SPACE = re.compile(r"[ \t\r\n]*")
_AFTER_ITEM = frozenset(", \t\r\n]")
_DECODER = json.JSONDecoder()


def iterate_items(pieces: Iterable[str]) -> Iterator[Any]:
    """Yield the items of a list, each as soon as its text is complete.

    Args:
        pieces: The text, cut anywhere.

    Raises:
        JSONError: The text is not one valid list, or `parse_json` rejects an item; gives the line of the text.
    """
    text, line, wanted = "", 1, 0
    # What may come next: the list ("["), its first item or end, another item, a comma or the end, or nothing.
    state = "list"
    for piece in chain(pieces, [None]):
        text += piece or ""
        if piece is not None and len(text) < wanted:
            continue
        at = wanted = 0
        while True:
            after = _after_space(text, at)
            line, at = line + text.count("\n", at, after), after
            if at == len(text):
                break
            sign = text[at]
            if state in ("first", "comma") and sign == "]":
                state, at = "nothing", at + 1
            elif (state, sign) in (("list", "["), ("comma", ",")):
                state, at = "first" if state == "list" else "item", at + 1
            elif state in ("first", "item"):
                end = _end_of_item(text, at, piece is None)
                if end is None:
                    wanted = 2 * (len(text) - at)
                    break
                yield _item(text[at:end], line)
                line, state, at = line + text.count("\n", at, end), "comma", end
            else:
                raise JSONError(f"not valid JSON: {sign!r} where {_EXPECTED[state]} is expected", line)
        text = text[at:]
    if state != "nothing":
        raise JSONError("not valid JSON: the list does not end", line)


_EXPECTED = {"list": "a list", "comma": "a comma or the end of the list", "nothing": "the end of the file"}


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _end_of_item(text: str, at: int, last: bool) -> int | None:
    """Return where an item ends; None if more of the text is needed to know. What is damaged ends with the text."""
    if len(text) - at > LONGEST_ITEM:
        last = True
    try:
        _, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return len(text) if last else None
    # A number may go on: "-1" is the beginning of "-1.5".
    return end if last or text[end : end + 1] in _AFTER_ITEM else None


def _item(text: str, line: int) -> Any:
    if len(text) > LONGEST_ITEM:
        raise JSONError(f"the item has more than {LONGEST_ITEM // 2**20} MiB", line)
    try:
        return parse_json(text)
    except JSONError as error:
        raise JSONError(str(error), line - 1 + (error.line or 1)) from error
