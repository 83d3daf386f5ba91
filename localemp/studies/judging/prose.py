"""Normalise what judges write to plain text, and find the words that take an answer back.

All patterns here and in `statements.py` are for plain text alone. In it no white space follows another, and every
repetition is bounded or can begin in few places only, so that no search takes longer than a text is long.
"""

import re
from typing import Final

LONGEST = 20_000
"""The number of characters read, from the end of an answer: the answer follows any long reasoning."""

FLAGS: Final = re.IGNORECASE | re.MULTILINE

_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Nothing to be seen: soft hyphens, what joins or turns characters or makes an emoji of a digit, codes of terminals.
_UNSEEN = re.compile(
    "[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe0f\u20e3\ufeff]|\x1b\\[[\\d;]{0,20}[a-zA-Z]|[\0-\x08\x0e-\x1b]"
)
# Emphasis and quotation marks, symbols and emojis, halves of characters.
_MARKS = re.compile(
    '[*`$"\u201c-\u201f\xab\xbb\u300c-\u300f\u2600-\u27bf\u2b00-\u2bff\ud800-\udfff\ufffd\U0001f000-\U0001faff]'
)
_TAGS = re.compile(r"</?(?:b|i|u|em|strong|p|code)>", re.IGNORECASE)
_SINGLE_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)")
_UNDERSCORES = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")  # within a word they are letters
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[ \n]*")
_HEADINGS = re.compile(r"^#{1,6} ", re.MULTILINE)
_INNER = re.compile(r" (?=[.,;:!?)\]}])|(?<=[(\[{]) ")
_SAME: Final[dict[int, int | str]] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},  # full width
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u2012\u2013\u2014\u2015"), " - "),
    **dict.fromkeys(map(ord, "\u2192\u21d2\u279c"), " -> "),
    ord("\u2026"): "...",
    **dict(zip(map(ord, "\u3001\u3002\u3010\u3011"), ",.[]", strict=True)),
}

_LEAD = r"(?:rating|score|grade|verdict|answer|choice|preference|decision|judge?ment)"
_AGAIN = r"re-?(?:consider|evaluat|assess|think|thought|read)|correct|revis|retract|withdraw|chang"
_RETRACTION = re.compile(
    # At the beginning of a clause.
    r"(?:^|[.!?;,(>}]| -| (?:but|or|yet)(?= )) ?(?:(?:oh|ah|um|hm+|but|and|or|so|well),? )?"
    r"(?:(?:actually|wait|hold on|correction|nope|oops|sorry|hm+|or rather|i meant?|now i (?:think|believe|say)"
    r"|(?:scratch|strike|make|change) (?:that|this|it))\b|(?:rather|instead|edit|update)[,:]"
    r"|no(?=$|[,.;:!?)]| -| \d| (?:(?-i:[AB])|a? ?tie|wait|actually|sorry|make|it'?s)\b))"
    # Anywhere.
    r"|\b(?:on|upon|after) (?:\w{1,20} ){0,2}(?:reflection|thoughts?|consideration|inspection|look|reading)\b"
    r"|\bsecond (?:thought|look|glance)|\b(?:thinking|looking) (?:about it |at it )?(?:again|closer|more|twice)\b"
    r"|\bcome to think|\bin (?:hindsight|retrospect)\b"
    rf"|\bchang(?:e|ed|ing) (?:my mind|(?:my|the) {_LEAD})\b"
    rf"|\b(?:revised|corrected|updated|amended|new) (?:final )?{_LEAD}\b"
    rf"|\b(?:let me|i|i'll|i'd|i'm|having|i must) (?:\w{{1,20}} ){{0,2}}(?:{_AGAIN}|tak\w{{1,4}} \w{{1,9}} back)"
    r"|\bthe other (?:one|reply|response) (?:is (?:\w{1,20} )?(?:better|best|preferable|stronger)|wins)\b"
    r"|\bmy (?:mistake|error|bad)\b|\bi (?:was|am|stand) (?:wrong|mistaken|corrected)\b|\bi misread\b"
    r"|\b(?:that|this)(?: is| was|'s) (?:wrong|not right|incorrect|a mistake)\b",
    FLAGS,
)


def ending(text: str) -> str:
    """Return the part of a text that is read."""
    if len(text) <= LONGEST:
        return text
    # Half a word or number would be another one.
    return "".join(re.split(r"\s", text[-LONGEST:], maxsplit=1)[1:])


def plain(text: str) -> str:
    """Remove emphasis, quotation marks and symbols; normalise digits, dashes and white space."""
    text = _UNSEEN.sub("", _LINE_END.sub("\n", text)).translate(_SAME)
    text = _UNDERSCORES.sub(" ", _SINGLE_QUOTES.sub(" ", _MARKS.sub(" ", _TAGS.sub(" ", text))))
    text = _LINES.sub("\n", _SPACES.sub(" ", text)).strip()
    return _INNER.sub("", _HEADINGS.sub("", text))


def taken_back(text: str) -> int:
    """Return the position where an answer is last taken back; statements before it do not count. -1 if nowhere."""
    return max((found.start() for found in _RETRACTION.finditer(text)), default=-1)
