"""Comma-separated values: no text is a formula, no number is a text, and all is read back as it was."""

import csv
import io
import random

import pytest

from localemp.utils.csv_writer import guarded, unguarded, written

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    '"=1',
    "'=1",
    "''=1",
    "\xa0-1",
    "\u201c=1",
    "\uff1d1",
    "\ufe621",
    "\u200e=1",
    "\u2060\xad=1",
    "\u2003=1",
    "\u2028=1",
    "\x7f=1",
]


@pytest.mark.parametrize("text", [*FORMULAS, "-0.41", "\x00", "=", "-"])
def test_what_a_spreadsheet_would_run_is_written_as_a_text(text):
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "a", "1", "a=1", "'", "'a", "''", "\u2212", "\u2013", "a\n=1", "[-1]", "(=1)", "."]
)
def test_other_texts_stay_as_they_are(text):
    assert guarded(text) == unguarded(text) == text


def test_numbers_are_written_as_they_are():
    rows = [["name", "value"], ["=x", -0.41], ["-0.41", -3], [None, 1e-20], ["a,b\n", 0.1]]
    assert written(rows) == "name,value\n'=x,-0.41\n'-0.41,-3\n,1e-20\n\"a,b\n\",0.1\n"


def test_half_a_character_can_be_written():
    assert written([["a\ud83d", "\ud83d\ude00"]]).encode().decode() == "a\ufffd,\U0001f600\n"


def test_every_text_is_read_back_as_it_was():
    draw = random.Random(1)
    texts = ["".join(draw.choices("=+-@'\" \t\r\n\xa0,;a1\u201c", k=draw.randrange(6))) for _ in range(20_000)]
    read = [row[0] if row else "" for row in csv.reader(io.StringIO(written([text, 1] for text in texts), newline=""))]
    assert [unguarded(cell) for cell in read] == texts
    formulas = [cell for cell in read if cell.lstrip(" '\"\xa0\u201c")[:1] in tuple("=+-@\t\r\n") and cell[0] != "'"]
    assert formulas == []
