"""Files of EmpatheticDialogues in which the two do not simply take turns: who says what, and what is told."""

import pytest

from localemp.data.conversations import clean_instances
from localemp.data.empathetic_dialogues import read_conversations

HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"


def told(caplog, path, *rows, header=HEADER):
    """The turns of every conversation, and what was told of the file. A row is conversation, index, speaker, text."""
    lines = [f"{key},{index},sad,p,{who},{text},," for key, index, who, text in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    turns = {one.id: one.turns for one in read_conversations(path)}
    said = [record.getMessage() for record in caplog.records]
    assert all(each.startswith(f"{path}: ") for each in said)
    return turns, [each.removeprefix(f"{path}: ") for each in said]


A, B, C = "311", "27", "9"
WHOLE = [("w", 1, A, "one"), ("w", 2, B, "two")]


@pytest.mark.parametrize(
    ("rows", "turns", "notes"),
    [
        ([(1, A, "a"), (2, B, "b"), (3, A, "c")], ("a", "b", "c"), []),
        # One person goes on: roles stay.
        ([(1, A, "a"), (2, A, "b"), (3, B, "c"), (4, A, "d")], ("a b", "c", "d"),
         ["1 rows continue the same speaker's turn and are merged with the row before (line 5)"]),
        ([(1, A, "a"), (2, B, "b "), (3, B, " c"), (4, B, "d")], ("a", "b c d"),
         ["2 rows continue the same speaker's turn and are merged with the row before (lines 6, 7)"]),
        ([(1, A, "a"), (2, A, "b")], ("a b",),
         ["1 rows continue the same speaker's turn and are merged with the row before (line 5)"]),
        # A row is missing between two of one person.
        ([(1, A, "a"), (3, A, "c"), (4, B, "d")], ("a c", "d"),
         ["1 rows continue the same speaker's turn and are merged with the row before (line 5)"]),
        ([(1, A, "a"), (2, B, "b"), (3, C, "c"), (4, B, "d")], ("a", "b"),
         ["1 conversations end before the words of a third person (line 6)"]),
        ([(1, A, "a"), (2, B, ""), (3, A, "c")], ("a", "", "c"),
         ["1 utterances are blank; their conversations end before them (line 5)"]),
        ([(2, B, "b"), (3, A, "c"), (4, B, "d")], (),
         ["1 conversations lack their beginning and are skipped (line 4)"]),
        # Where nobody says who it is, the order does; and a gap ends it.
        ([(1, "", "a"), (2, "", "b")], ("a", "b"), []),
        ([(1, "", "a"), (2, "", "b"), (4, "", "d")], ("a", "b"),
         ["1 conversations end where rows are missing (line 6)"]),
    ],
)  # fmt: skip
def test_turns(caplog, tmp_path, rows, turns, notes):
    more = [("v", 1, A, "x"), ("v", 2, B, "y"), ("u", 1, A, "x"), ("u", 2, C, "y")]  # as most of a file are
    found, said = told(caplog, tmp_path / "test.csv", *WHOLE, *(("c", *row) for row in rows), *more)
    assert found["w"] == ("one", "two")
    assert (found["c"], said) == (turns, notes)


def test_numbers_that_tell_no_people_are_left_alone(caplog, tmp_path):
    rows = [("c", 1, 1, "a"), ("c", 2, 2, "b"), ("c", 3, 3, "c"), ("d", 1, 4, "x"), ("d", 2, 4, "y")]
    assert told(caplog, tmp_path / "test.csv", *rows) == ({"c": ("a", "b", "c"), "d": ("x", "y")}, [])


@pytest.mark.parametrize("first", [0, 1, 7])
def test_rows_may_be_counted_from_any_number(caplog, tmp_path, first):
    rows = [(key, first + number, who, text) for key in "cd" for number, (who, text) in enumerate([(A, "a"), (B, "b")])]
    assert told(caplog, tmp_path / "test.csv", *rows) == ({"c": ("a", "b"), "d": ("a", "b")}, [])


def test_lines_are_named_and_all_are_counted(caplog, tmp_path):
    rows = [("c", 2 * number + 1, A, "a") for number in range(9)]
    turns, notes = told(caplog, tmp_path / "test.csv", *WHOLE, *rows)
    assert turns["c"] == (" ".join("a" * 9),)
    assert notes == [
        "8 rows continue the same speaker's turn and are merged with the row before (lines 5, 6, 7, 8, 9, ...)"
    ]


def test_instances_never_answer_oneself(tmp_path):
    rows = ["c,1,sad,p,1,a,,", "c,2,sad,p,1,b,,", "c,3,sad,p,2,c,,", "c,4,sad,p,1,d,,", "c,5,sad,p,2,e,,"]
    (tmp_path / "test.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    instances = clean_instances(read_conversations(tmp_path / "test.csv"))
    assert [(one.turns, one.reference) for one in instances] == [(("a b",), "c"), (("a b", "c", "d"), "e")]
