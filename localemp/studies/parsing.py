"""Reads the answers of judges that cannot be held to a form. What is not clear is not guessed.

An answer is read from the JSON objects in it; where there is none, from a clear statement: the bare answer ("A",
"Tie.", "4/5"), a marked one ("[[A]]", "Rating: 4") or a whole sentence ("Reply A is better than reply B."). Statements
that differ cancel each other.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Choice = Literal["A", "B", "tie"]

_CHOICES: dict[str, Choice] = {"a": "A", "b": "B", "tie": "tie", "draw": "tie", "equal": "tie"}
_FLAGS = re.IGNORECASE | re.MULTILINE
_REPLY = r"(?:(?:the )?(?:reply|response|answer|option) )?"
_WORD = rf"{_REPLY}(?P<value>[AB]|(?:a )?(?:tie|draw)|equal)"
_CLEAR_WORD = _WORD.replace("[AB]", "(?-i:[AB])")  # within a text "a" is an article
_NUMBER = r"(?P<value>[-−]?\d+(?:\.\d+)?)(?P<of> ?(?:/|out of) ?\d+)?"
_OPEN, _CLOSE = r"[\s\"'*_`(\[{]*", r"[\"'*_`)\]}]*"
# What may follow a marked answer: the end of line or sentence, a reason, or the next key of a JSON object cut short.
_THEN = r"(?=\s*(?:$|\.(?!\d)|[;!\n]|,? (?:because|since|as)\b|[-–—] ?(?!or )[a-z]{2}|,\s*[\"']\w+[\"']\s*:))"
_CHOICE_LEAD = r"\b(?:choice|answer|verdict|winner|preference|better (?:reply|response|one))"
_RATING_LEAD = r"\b(?:rating|score|grade)"
_IS = r"[\"'*_`]*\s*(?:[:=]|\bis\b:?)"
_SENTENCE = re.compile(
    rf"(?:^|[.!?\n]\s+){_REPLY}(?P<value>(?-i:[AB])) is (?:much |slightly |clearly |the )?(?:better|winner)"
    rf"(?: (?:one|reply|response))?(?: than {_REPLY}[AB])?"
    r"(?:,? (?:because|since|as)\b(?P<reason>[^.!?\n]*))?(?=[.!\n]|\Z)",
    _FLAGS,
)
_TURN = re.compile(r"\b(?:but|however|although|though|yet|while|whereas|unless|if)\b", re.IGNORECASE)
# What takes a statement back that stands before it.
_TAKEN_BACK = re.compile(
    r"\b(?:but|however|unless|instead|actually|other hand|tie|draw|equal(?:ly)?)\b|(?:[.!?\n]|^)\s*(?:no|wait)\b"
    r"|\b[AB] (?:is|was|seems|feels|would be) (?:\w+er|more|preferable)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an answer says.

    Attributes:
        value: None where it cannot be read.
        problem: Then why.
    """

    value: Choice | int | None
    problem: str = ""


def parse_choice(text: str) -> Parsed:
    """The better reply, "A", "B" or "tie"."""

    def bare(value: Any) -> Choice | None:
        found = _whole(_WORD, value) if isinstance(value, str) else None
        return _choice(found["value"]) if found else None

    def stated(answer: str) -> Iterator[Choice | None]:
        for pattern in (rf"\[\[{_CLEAR_WORD}\]\]{_THEN}", rf"{_CHOICE_LEAD}{_IS}{_OPEN}{_CLEAR_WORD}{_CLOSE}{_THEN}"):
            for found in re.finditer(pattern, answer, _FLAGS):
                yield _choice(found["value"])
        for found in _SENTENCE.finditer(answer):
            # "A is better because ..., but B ..." is no verdict, and neither is "A is better. But ..."
            unsure = _TURN.search(found["reason"] or "") or _TAKEN_BACK.search(answer[found.end() :])
            yield None if unsure else _choice(found["value"])

    return _parse(text, "choice", bare, stated, r"(?:A|B|tie)")


def parse_rating(text: str, scale: tuple[int, int]) -> Parsed:
    """A whole number within the scale, ends included."""
    low, high = scale

    def number(found: re.Match[str]) -> int | None:
        value, of = float(found["value"].replace("−", "-")), found["of"]
        if of is not None and float(re.sub(r"\D", "", of)) != high:
            return None
        return int(value) if value.is_integer() and low <= value <= high else None

    def bare(value: Any) -> int | None:
        if isinstance(value, bool):
            return None
        found = _whole(_NUMBER, str(value)) if isinstance(value, str | int | float) else None
        return number(found) if found else None

    def stated(answer: str) -> Iterator[int | None]:
        for pattern in (rf"\[\[{_NUMBER}\]\]{_THEN}", rf"{_RATING_LEAD}{_IS}{_OPEN}{_NUMBER}{_CLOSE}{_THEN}"):
            for found in re.finditer(pattern, answer, _FLAGS):
                yield number(found)

    return _parse(text, "rating", bare, stated, r"[-−]?\d+(?:/\d+)?(?!\.)")  # "1." begins a list


def _parse(
    text: str,
    key: str,
    bare: Callable[[Any], Choice | int | None],
    stated: Callable[[str], Iterator[Choice | int | None]],
    short: str,
) -> Parsed:
    """Read an answer: JSON first, then the bare answer, then what is stated in it.

    Args:
        text: As it came.
        key: Of the JSON object.
        bare: Reads a text that is nothing but the answer, or the value of the key; None where it is none.
        stated: All statements in a text; None for one that does not count but makes the answer unclear.
        short: What a line may consist of besides others; it is then a statement too.
    """
    _, _, answer = text.rpartition("</think>")
    if "<think>" in answer:
        return Parsed(None, "it ended while thinking")
    if not answer.strip():
        return Parsed(None, "it is empty")
    if found := list(_values(answer, key)):
        values = [bare(value) for value in found]
        wrong = next((value for value, read in zip(found, values, strict=True) if read is None), None)
        return _agreed(values, f'its "{key}" is {json.dumps(wrong)}')
    if (whole := bare(answer)) is not None:
        return Parsed(whole)
    lines = [line for line in answer.splitlines() if _whole(short, line)]
    return _agreed([*map(bare, lines), *stated(answer)], "its statement is unclear")


def _agreed(values: list[Choice | int | None], unclear: str) -> Parsed:
    if not values:
        return Parsed(None, "it states no answer")
    if None in values:
        return Parsed(None, unclear)
    return Parsed(values[0]) if len(set(values)) == 1 else Parsed(None, "it states several answers")


def _values(text: str, key: str) -> Iterator[Any]:
    """What JSON objects have under a key, wherever they are: between words, in a code fence, in one another."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        following = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            pass
        else:
            for name in value:
                if name.lower() == key:
                    following = end
                    yield value[name]
        start = text.find("{", following)


def _whole(pattern: str, text: str) -> re.Match[str] | None:
    """Match all of a text but for quotes, brackets, emphasis and a final dot around it."""
    return re.fullmatch(rf"{_OPEN}(?:{pattern}){_CLOSE}[.!]?{_CLOSE}\s*", text.strip(), _FLAGS)


def _choice(word: str) -> Choice:
    return _CHOICES[word.lower().removeprefix("a ")]
