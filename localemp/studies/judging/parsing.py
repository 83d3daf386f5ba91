"""Parse the answers of judges that cannot be constrained to a format. Unclear answers are not guessed.

An answer is read from the JSON objects in it, and from what is stated after them. Statements that differ cancel each
other. Where an answer is taken back ("no wait"), only what is stated after that counts; where the last statement is
doubted after it, nothing does.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localemp.protocol.thinking import split_thinking
from localemp.studies.judging.prose import ending, plain, taken_back
from localemp.studies.judging.statements import CHOICES, RATINGS, Choice, Form, Read, Statement, Value

_MOST_OBJECTS = 100
_LONGEST_VERDICT = 40  # with what ends it
_LETTER = re.compile(r"(?:[a-z]{1,20}: ?)?\W{0,3}(\S{1,20}?)\W{0,3}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed answer.

    Attributes:
        value: None where it cannot be read.
        problem: Then why.
    """

    value: Value | None
    problem: str = ""


def parse_choice(text: str) -> Parsed:
    """Return the better reply, "A", "B" or "tie"."""

    def read(found: re.Match[str]) -> Choice:
        letter = found["letter"]
        if letter is None:
            return "tie"
        return "A" if letter in "aA" else "B"

    return _parse(text, CHOICES, read)


def parse_letter(text: str, letters: Mapping[str, Choice]) -> Parsed | None:
    """Return what a letter stands for, if the answer is a letter and nothing else ("C", "**Answer:** C."), or None."""
    found = _LETTER.fullmatch(plain(ending(split_thinking(text).text)))
    chosen = {letter.casefold(): choice for letter, choice in letters.items()}.get(found[1].casefold() if found else "")
    return None if chosen is None else Parsed(chosen)


def parse_verdict(text: str, form: str, values: Mapping[str, Value]) -> Parsed:
    """Return what the last verdict of an answer says; whatever else it states is only its explanation.

    Args:
        text: The answer.
        form: How a verdict is written, with `{answer}`: "[[{answer}]]".
        values: What each answer means; case does not matter.
    """
    answer, thinking = split_thinking(text)
    if problem := _empty(answer, thinking):
        return Parsed(None, problem)
    before, _, after = form.partition("{answer}")
    pieces = [piece[:_LONGEST_VERDICT].partition(after) for piece in ending(answer).split(before)[1:]]
    found = [said.strip() for said, closed, _ in pieces if closed and len(said.split()) == 1]
    if not found:
        return Parsed(None, f"it has no verdict in the form {form.format(answer='...')}")
    last = re.sub(r"^(-?\d+)[.,]0+$", r"\1", found[-1]).casefold()
    known = {name.casefold(): value for name, value in values.items()}
    return Parsed(known[last]) if last in known else Parsed(None, "its last verdict is none of the answers")


def parse_rating(text: str, scale: tuple[int, int]) -> Parsed:
    """Return a whole number within the scale, ends included."""
    low, high = scale

    def read(found: re.Match[str]) -> int | None:
        value, of = float(found["number"].replace(",", ".")), found["of"]
        before = found.string[: found.start("number")].rstrip()
        if (of is not None and float(of) != high) or (low < 0 and before.endswith("-")):  # a minus, or a dash?
            return None
        return int(value) if value.is_integer() and low <= value <= high else None

    return _parse(text, RATINGS, read)


def _parse(text: str, form: Form, read: Read) -> Parsed:
    answer, thinking = split_thinking(text)
    if problem := _empty(answer, thinking):
        return Parsed(None, problem)
    values, rest = _objects(ending(answer), form.key)
    return _decided([_of_json(value, form, read) for value in values], plain(rest), form, read)


def _empty(answer: str, thinking: str) -> str:
    """Return what is wrong with an answer that has no text; empty if it has some."""
    if answer.strip():
        return ""
    return "it ended while thinking" if thinking else "it is empty"


def _objects(text: str, key: str) -> tuple[list[Any], str]:
    """Return the values under a key in JSON objects (fenced and nested ones too), and the text from the last brace."""
    decoder, values, end = json.JSONDecoder(), list[Any](), 0
    for brace in [found.start() for found in re.finditer(r"\{", text)][-_MOST_OBJECTS:]:
        if brace < end:
            continue
        try:
            value, after = decoder.raw_decode(text, brace)
        except (ValueError, RecursionError):
            continue
        if found := [value[name] for name in value if name.lower() == key]:
            values += found
            end = after
    return values, text[max(0, end - 1) :]


def _of_json(value: Any, form: Form, read: Read) -> Value | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return _decided([], plain(str(value)), form, read).value


def _decided(values: list[Value | None], text: str, form: Form, read: Read) -> Parsed:
    """Decide on one answer from JSON values and the plain text after them."""
    stated = [*(Statement(-1, 0, value) for value in values), *form.statements(text, read)]
    if not stated:
        return Parsed(None, "it states no answer")
    back = taken_back(text)
    valid = [each for each in stated if each.start >= back]
    if not valid:
        return Parsed(None, "it takes its answer back")
    if firm := [each for each in valid if not each.compares]:
        # Beside an answer in a form, a comparison that is unclear only explains it.
        valid = [each for each in valid if each.value is not None or not each.compares]
    told = {each.value for each in valid}
    if None in told:
        return Parsed(None, "its statement is unclear")
    if len(told) > 1:
        return Parsed(None, "it states several answers")
    last = (firm or valid)[-1]
    if form.doubts(last, text, read):
        return Parsed(None, "it doubts its answer")
    return Parsed(last.value)
