"""No regular expression takes more than linear time, and no function around one: a server would stand still."""

import re

import pytest
from hostile_runs import TooSlowError, check, plain_runs, runs_for
from regular_expressions import Found, all_expressions

from localemp.commonsense.events import released_event
from localemp.commonsense.selection import key_of
from localemp.metrics.emotion import first_label
from localemp.metrics.tokens import words
from localemp.models.profiles import safe_name
from localemp.reporting.writers import tex
from localemp.strategies.cleaning import Cleaner, clean_reply
from localemp.utils.text import for_terminal, one_line, well_formed
from localemp.utils.truncation import sentence_starts

EXPRESSIONS = all_expressions()

# Patterns that are put together where they are used: an example of each, by file and function.
BUILT = {
    "metrics/emotion.py:_pattern": r"(?<![^\W_])(?:sad|joyful|sentimental)(?![^\W_])",
    "strategies/answers.py:_pattern": r"(?<!\w)(?:Question|Self\-disclosure|Others)(?!\w)",
    "studies/create.py:_notes": r"(?<!\w)name(?!\w)",
    "models/peft.py:_is_harmless": r"layers\.[01]\.q_proj",
    "models/weights.py:_leftovers": r"\.name\.\d+\.(part|part\.work|old)",
    "utils/plugins.py:_is_own": r"brief(_[a-z0-9_]+)?",
}


@pytest.mark.parametrize("found", EXPRESSIONS, ids=lambda found: found.where)
def test_no_expression_takes_more_than_linear_time(found: Found):
    expressions = found.expressions or [re.compile(BUILT[place]) for place in [found.place] if place in BUILT]
    assert expressions, f"{found.where}: what is compiled there is not known; add an example to BUILT"
    for expression in expressions:
        for use in found.uses:
            runs = runs_for(expression.pattern, expression.flags)
            check(_used(expression, use), runs, as_bytes=isinstance(expression.pattern, bytes))


def test_every_example_is_of_a_pattern_that_is_there():
    assert BUILT.keys() <= {found.place for found in EXPRESSIONS}


def _used(expression: "re.Pattern[str]", use: str):
    if use in ("sub", "subn"):
        return lambda text: expression.sub(lambda match: match[0], text)
    if use == "finditer":
        return lambda text: sum(1 for _ in expression.finditer(text))
    return getattr(expression, use)


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        (r"[.!?]+[\"')]*\s+(?=\S)", "finditer"),  # what COMET's events were scanned with
        (r"\s+(?=n't\b|'s\b)", "sub"),
        (r"\s*\d+\s*:", "search"),
        (r"(a+)+b", "match"),
        (r"[^:]*:(\d+)", "search"),
        (rb'"model"\s*:\s*[^,]*,', "search"),
        (r"files: .*?(\d+)/(\d+)", "search"),
    ],
)
def test_what_takes_longer_is_found(pattern: str | bytes, use: str):
    expression = re.compile(pattern)
    with pytest.raises(TooSlowError):
        check(_used(expression, use), runs_for(pattern), as_bytes=isinstance(pattern, bytes))


def letter_by_letter(text: str) -> str:
    cleaner = Cleaner()
    return "".join([*map(cleaner.feed, text), cleaner.end()])


FUNCTIONS = {
    "clean_reply": clean_reply,
    "Cleaner": letter_by_letter,
    "first_label": lambda text: first_label(text, True),
    "for_terminal": for_terminal,
    "key_of": key_of,
    "one_line": one_line,
    "released_event": released_event,
    "safe_name": safe_name,
    "sentence_starts": sentence_starts,
    "tex": tex,
    "well_formed": well_formed,
    "words": words,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_takes_more_than_linear_time(name: str):
    check(FUNCTIONS[name], plain_runs())


def test_a_function_that_takes_longer_is_found():
    def slow(text: str) -> int:
        return sum(not text[at:].strip(" x") for at, letter in enumerate(text) if letter == " ")

    with pytest.raises(TooSlowError):
        check(slow, plain_runs())
