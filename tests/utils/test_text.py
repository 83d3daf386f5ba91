"""Foreign text: storable, harmless, short."""

import json

import pytest

from localemp.utils.text import for_terminal, is_well_formed, json_line, one_line, well_formed


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


def test_json_line():
    value = {"a\x9b": ["\x1b[2J\n", "\u202e", "\ud83d", "é 😀"]}
    line = json_line(value)
    assert line == for_terminal(line)
    assert json.loads(line) == value
    assert "é 😀" in line


def test_one_line():
    assert one_line(" a\n b ") == "a b"
    assert one_line("x" * 300, 20) == "x" * 19 + "…"
    assert one_line("\x1b[2J") == "\\x1b[2J"
    assert len(one_line("x " * 10_000_000)) == 200
