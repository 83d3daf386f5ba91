"""JSON lines of people's own: what is taken, and what is refused with file and line."""

import gzip
import json
from pathlib import Path

import pytest

from localemp.data.jsonl import read_jsonl
from localemp.dialogue import Dialogue
from localemp.errors import DataError


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_only_turns_are_required(tmp_path):
    (dialogue,) = read_jsonl(write(tmp_path / "a.jsonl", {"turns": ["I lost my job."]}))
    assert dialogue == Dialogue("line-1", ("I lost my job.",), conversations=("line-1",))


def test_all_keys(tmp_path):
    record = {
        "id": "a",
        "turns": [" Hi. ", "Hello, what happened?", "My dog — he died."],
        "emotion": "heartbroken",
        "situation": "My dog died.",
        "reference": "Oh no.",
        "conversation": ["c1", "c2"],
        "support_strategies": ["Question", "Information"],
        "annotator": {"anything": [1, 2]},
    }
    assert read_jsonl(write(tmp_path / "a.jsonl", record)) == [
        Dialogue(
            "a",
            ("Hi.", "Hello, what happened?", "My dog — he died."),
            "heartbroken",
            "My dog died.",
            "Oh no.",
            ("c1", "c2"),
            ("Question", "Information"),
        )
    ]


@pytest.mark.parametrize(
    ("conversation", "known"), [("c1", ("c1",)), (["c1"], ("c1",)), (None, ("a",)), ([], ("a",)), ("", ("a",))]
)
def test_conversation(tmp_path, conversation, known):
    (dialogue,) = read_jsonl(write(tmp_path / "a.jsonl", {"id": "a", "turns": ["Hi."], "conversation": conversation}))
    assert dialogue.conversations == known


def test_null_and_blank_values_are_as_if_left_out(tmp_path):
    record = {"id": None, "turns": ["Hi."], "emotion": None, "situation": "", "reference": " "}
    (dialogue,) = read_jsonl(write(tmp_path / "a.jsonl", record))
    assert (dialogue.id, dialogue.emotion, dialogue.situation, dialogue.reference) == ("line-1", None, None, None)


def test_blank_lines_keep_line_numbers_and_gzip_is_read(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'\r\n{"turns": ["Hi."]}\r\n\n{"turns": ["Ho."]}'))
    assert [one.id for one in read_jsonl(path)] == ["line-2", "line-4"]


@pytest.mark.parametrize(
    ("line", "words", "hint"),
    [
        ('{"turns": ["Hi."]', "not valid JSON", "one JSON object"),
        ("Hi.", "not valid JSON", "one JSON object"),
        ("[", "not valid JSON", "one JSON object"),
        (["Hi."], "expected a JSON object, found a list", "one JSON object"),
        ("null", "expected a JSON object, found null", "one JSON object"),
        ("3", "expected a JSON object, found a number", "one JSON object"),
        ({}, 'no "turns"', "one JSON object"),
        ({"turns": None}, 'no "turns"', "one JSON object"),
        ({"turns": []}, '"turns" is an empty list', "one JSON object"),
        ({"turns": "Hi."}, '"turns" must be a list of strings, found a string', "one JSON object"),
        ({"turns": {"a": 1}}, '"turns" must be a list of strings, found an object', "one JSON object"),
        ({"turns": ["Hi.", 3, "Ho."]}, '"turns", item 2, must be a string, found a number', ""),
        ({"turns": [True]}, '"turns", item 1, must be a string, found true or false', ""),
        ({"turns": ["Hi.", " ", "Ho."]}, "turn 2 is empty", "every turn a text"),
        ({"turns": ["Hi.", "Ho."]}, "the listener spoke last", '"reference"'),
        ({"turns": ["Hi."], "id": 7}, '"id" must be a string, found a number', ""),
        ({"turns": ["Hi."], "emotion": ["sad"]}, '"emotion" must be a string, found a list', ""),
        ({"turns": ["Hi."], "reference": False}, '"reference" must be a string, found true or false', ""),
        ({"turns": ["Hi."], "conversation": 0}, '"conversation" must be a list of strings, found a number', ""),
        ({"turns": ["Hi."], "conversation": [None]}, '"conversation", item 1, must be a string, found null', ""),
        (
            {"turns": ["Hi."], "support_strategies": 7},
            '"support_strategies" must be a list of strings, found a number',
            "",
        ),
        ({"turns": ["Hi \ud83d"]}, "an unpaired surrogate", ""),
        ({"turns": ["Hi."], "id": "first"}, "line 1 has the same id 'first'", "its own id"),
    ],
)
def test_bad_line(tmp_path, line, words, hint):
    path = write(tmp_path / "a.jsonl", {"id": "first", "turns": ["Hi."]}, "", line)
    with pytest.raises(DataError) as caught:
        read_jsonl(path)
    assert caught.value.message.startswith(f"{path}, line 3: ")
    assert words in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match="empty"):
        read_jsonl(path)
