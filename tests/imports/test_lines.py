"""Formats of one line a reply."""

from pathlib import Path

import pytest

from localemp.errors import DataError
from localemp.imports.formats import looks_like
from localemp.imports.lines import read_log, read_paper, read_plain

LOG_TEXT = """[2021-08-01 10:00:00,001 INFO] Vocab size: 9
[2021-08-01 10:00:01,001 INFO] S-0\t<CLS> i broke it . <SEP> why ? <SEP> it was n't good . <SEP>
[2021-08-01 10:00:01,002 INFO] T-0\t<BOS> oh no ! <EOS>
[2021-08-01 10:00:01,003 INFO] H-0\ti see : fine .
[2021-08-01 10:00:01,004 INFO] S-1\t<CLS> hi <SEP>
[2021-08-01 10:00:01,005 INFO] T-1\t<BOS> hello <EOS>
[2021-08-01 10:00:01,006 INFO] H-1\t
[2021-08-01 10:00:02,001 INFO] Test | bleu1=0.1
"""
LOG = LOG_TEXT.split("\n")


def test_plain_lines_are_rows_and_an_empty_one_is_an_empty_reply():
    items = read_plain(Path("f"), [" oh . ", "", "no\u2028way"])
    assert [item.replies["reply"] for item in items] == ["oh .", "", "no\u2028way"]
    assert [item.row for item in items] == [0, 1, 2]
    assert [item.line for item in items] == [1, 2, 3]


def test_the_papers_lines_have_an_id_and_a_mark():
    items = read_paper(Path("f"), ["0 #*#*# Oh : no #1!", "2 #*#*# ", "10 #*#*# a #*#*# b"])
    assert [(item.row, item.replies["reply"]) for item in items] == [(0, "Oh : no #1!"), (2, ""), (10, "a #*#*# b")]


def test_a_reply_of_several_lines_goes_on_until_the_next_mark():
    items = read_paper(Path("f"), ["0 #*#*# Oh no!", "", "What happened?", "1 #*#*# Hm."])
    assert [item.replies["reply"] for item in items] == ["Oh no!\n\nWhat happened?", "Hm."]


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        (["Oh no!"], 1, "no id and '#*#*#'"),
        (["x #*#*# Oh"], 1, "no id"),
        (["0 #*#*# a", "1 #*#*# b", "0 #*#*# c"], 3, "id 0 is taken by line 1"),
    ],
)
def test_wrong_lines_of_the_paper_are_errors(lines, line, message):
    with pytest.raises(DataError) as caught:
        read_paper(Path("f"), lines)
    assert message in caught.value.message
    assert caught.value.line == line


def test_the_log_of_ec_holds_source_target_and_hypothesis():
    first, second = read_log(Path("f"), LOG)
    assert first.context == ("i broke it .", "why ?", "it was n't good .")
    assert (first.reference, first.replies, first.line) == ("oh no !", {"reply": "i see : fine ."}, 2)
    assert second.replies == {"reply": ""}


def test_a_log_without_the_time_is_read_too():
    assert read_log(Path("f"), ["S-0\t<CLS> hi <SEP>", "T-0\t<BOS> a <EOS>", "H-0\tb"])[0].replies == {"reply": "b"}


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        (["nothing"], None, "no line is"),
        (LOG + LOG, 11, "S-0 was there before"),
        (LOG[:3], 2, "no H-0"),
    ],
)
def test_wrong_logs_are_errors(lines, line, message):
    with pytest.raises(DataError) as caught:
        read_log(Path("f"), lines)
    assert message in caught.value.message
    assert caught.value.line == line


def test_what_the_files_look_like():
    assert looks_like(LOG) == "ec"
    assert looks_like(["", "0 #*#*# a"]) == "paper"
    assert looks_like(["just", "replies"]) is None
    assert looks_like([""]) is None
