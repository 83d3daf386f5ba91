"""Foreign text: storable, harmless, short."""

import json
import unicodedata

import pytest

from localemp.utils.text import for_terminal, is_well_formed, json_text, one_line, well_formed


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("plain", "plain"),
        ("é 😀", "é 😀"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ude00 cut", "\ufffd cut"),
        ("pair \ud83d\ude00", "pair 😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ufeffmark", "\ufeffmark"),
    ],
)
def test_well_formed(text, whole):
    assert well_formed(text) == whole
    assert is_well_formed(well_formed(text))
    well_formed(text).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\u202eright", "\\u202eright"),
        ("cut \ud83d", "cut \\ud83d"),
    ],
)
def test_for_terminal(text, shown):
    assert for_terminal(text) == shown


@pytest.mark.parametrize(("indent", "lines"), [(None, 1), (2, 9)])
def test_json_text(indent, lines):
    value = {"a\x9b": ["\x1b[2J\n\t\x7f", "\u202e\u2028", "\ud83d", "é 😀"], "b": 1}
    text = json_text(value, indent)
    assert text == for_terminal(text)
    assert not [sign for sign in text if sign != "\n" and unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl")]
    assert len(text.split("\n")) == lines
    assert json.loads(text) == value
    assert "é 😀" in text


def test_json_text_is_never_something_else():
    with pytest.raises(ValueError, match="JSON"):
        json_text([float("nan")])


def test_one_line():
    assert one_line(" a\n b ") == "a b"
    assert one_line("x" * 300, 20) == "x" * 19 + "…"
    assert one_line("\x1b[2J") == "\\x1b[2J"
    assert len(one_line("x " * 10_000_000)) == 200
