"""Formats of JSON."""

import json
from pathlib import Path

import pytest

from localemp.errors import DataError
from localemp.imports.formats import looks_like
from localemp.imports.records import read_jsonl, read_lists, read_parlai

EPISODE = {
    "dialog": [
        [
            {"id": "empathetic_dialogues", "text": "I broke it.", "eval_labels": ["Why?"], "emotion": "guilty"},
            {"id": "TransformerGenerator", "text": "Oh no!"},
        ],
        [
            {"id": "empathetic_dialogues", "text": "I fell.", "eval_labels": ["I see."], "episode_done": True},
            {"id": "TransformerGenerator", "text": ""},
        ],
    ],
    "context": [],
    "metadata_path": "replies.metadata",
}


def lines(*records):
    return [json.dumps(record) for record in records]


def test_all_that_a_line_can_hold():
    full = {
        "id": "a",
        "reply": " Oh! ",
        "reference": "Ah.",
        "emotion": "sad",
        "feeling": "sad, I think",
        "turns": ["Hi"],
    }
    (item,) = read_jsonl(Path("f"), lines({**full, "model": "mine"}))
    assert (item.id, item.row, item.replies, item.reference) == ("a", None, {"reply": "Oh!"}, "Ah.")
    assert (item.emotion, item.feeling, item.context) == ("sad", "sad, I think", ("Hi",))


def test_lines_without_ids_are_rows_and_blank_lines_are_none():
    items = read_jsonl(Path("f"), ['{"reply": "a"}', "", '{"reply": ""}'])
    assert [(item.row, item.line, item.replies["reply"]) for item in items] == [(0, 1, "a"), (1, 3, "")]


def test_an_id_that_is_a_number_may_be_a_row():
    items = read_jsonl(
        Path("f"), lines({"id": 3, "reply": "a"}, {"id": "12", "reply": "b"}, {"id": "007", "reply": "c"})
    )
    assert [(item.id, item.row) for item in items] == [("3", 3), ("12", 12), ("007", None)]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"id": "b"}, 'no "reply"'),
        ({"id": "b", "reply": None}, 'no "reply"'),
        ({"id": "b", "reply": 3}, '"reply" must be a string, found a number'),
        ({"id": "b", "reply": ["x"]}, "found a list"),
        ({"id": "b", "reply": "\ud800"}, "surrogate"),
        ({"id": "a", "reply": "x"}, "id 'a' is taken by line 1"),
        ({"reply": "x"}, "no id, and earlier lines have one"),
        ({"id": True, "reply": "x"}, '"id" must be a string, found true or false'),
        ({"id": "b", "reply": "x", "turns": "hi"}, '"turns" must be a list of strings'),
        (["x"], "expected a JSON object, found a list"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_number(second, message):
    with pytest.raises(DataError) as caught:
        read_jsonl(Path("f"), lines({"id": "a", "reply": "x"}, second))
    assert message in caught.value.message
    assert caught.value.line == 2


def test_a_cut_line_is_an_error():
    with pytest.raises(DataError, match="line 2: not valid JSON"):
        read_jsonl(Path("f"), ['{"reply": "a"}', '{"reply": "b'])


def test_parlai_goes_on_from_what_the_listener_really_replied():
    first, second = read_parlai(Path("f"), lines(EPISODE))
    assert (first.context, first.reference, first.replies) == (("I broke it.",), "Why?", {"reply": "Oh no!"})
    assert second.context == ("I broke it.", "Why?", "I fell.")
    assert (first.emotion, second.emotion, second.replies) == ("guilty", None, {"reply": ""})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, 'no "dialog"'),
        ({"dialog": [[{"text": "x"}]]}, "an exchange is not"),
        ({"dialog": [[{"text": "x"}, {"id": "model"}]]}, 'has no "text"'),
        ({"dialog": [[{"text": 1}, {"text": "a"}]]}, "must be a string"),
    ],
)
def test_wrong_logs_of_parlai_are_errors(record, message):
    with pytest.raises(DataError, match="line 2") as caught:
        read_parlai(Path("f"), lines(EPISODE, record))
    assert message in caught.value.message


def test_lists_hold_several_systems():
    first, second = read_lists(Path("f"), lines({"moel": ["a ", "b"], "ref": ["c", "d"], "empDG": ["", "f"]}))
    assert (first.replies, first.reference) == ({"moel": "a", "empDG": ""}, "c")
    assert second.replies == {"moel": "b", "empDG": "f"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"ref": ["a"]}, "no object of lists"),
        ({"moel": ["a"]}, "no object of lists"),
        ({"moel": ["a", "b"], "ref": ["c"]}, "'moel' has 2 texts, and 'ref' 1"),
        ({"moel": [1], "ref": ["c"]}, "item 0 of 'moel' is a number"),
        ({"moel": "a", "ref": ["c"]}, "'moel' has a string"),
    ],
)
def test_wrong_lists_are_errors(record, message):
    with pytest.raises(DataError) as caught:
        read_lists(Path("f"), lines(record))
    assert message in caught.value.message


def test_what_the_files_look_like():
    assert looks_like(lines({"id": "a", "reply": "b"})) == "jsonl"
    assert looks_like(lines(EPISODE)) == "parlai"
    assert looks_like(lines({"moel": ["a"], "ref": ["b"]})) == "empdg-json"
    assert looks_like(["{"]) is None
    assert looks_like(["[1]"]) is None
