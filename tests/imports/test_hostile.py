"""Files of other programs that nobody would write: linear in time, and never more than an error."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.imports.alignment import find_rows, letters
from localemp.imports.formats import FORMATS, looks_like
from localemp.imports.items import Item

BLOCK = "emotion:sad\nContext:{}\nPred:a\nRef:b"


def context(text):
    (item,) = FORMATS["empdg"].read(Path("f"), BLOCK.format(text).split("\n"))
    return item.context


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("['a', \"it's\"]", ("a", "it's")),
        ("[]", ()),
        (r"['it\'s', 'two\nlines', '\u00e9']", ("it's", "two\nlines", "é")),
        (r"['\ud83d']", ("\ufffd",)),
        (r"['\x']", (r"\x",)),
        ("['a', 3]", ("a', 3",)),
        ("['a'] and more", ("a'] and more",)),
        ("[" * 9, ()),
    ],
)
def test_a_context_is_a_list_of_texts(text, turns):
    assert context(text) == turns


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "[" + "-" * 200_000 + "1]", "[" + "'a' + " * 100_000 + "'a']", "[((" * 99_999]
)
def test_python_is_never_asked_to_read_what_is_deep(text):
    assert len(context(text)) <= 1


@pytest.mark.parametrize(
    "piece", ["'", '"', "\\", "', ", "a", " ", "'a', ", "[SEP]", "[", "\t", "#*#*#", "<SEP>", "-", "#", "n't "]
)
@pytest.mark.parametrize("name", ["empdg", "ec", "paper", "jsonl", "parlai", "empdg-json"])
def test_time_is_linear(name, piece):
    begins = {
        "empdg": "emotion:sad\nContext:['",
        "ec": "S-0\t",
        "paper": "0 #*#*#",
        "jsonl": '{"reply": "',
        "parlai": '{"dialog": "',
    }

    def seconds(size: int) -> float:
        text = begins.get(name, "") + piece * (size // len(piece)) + "\nPred:a\nRef:b"
        begun = time.thread_time()
        with contextlib.suppress(DataError):
            FORMATS[name].read(Path("f"), text.split("\n"))
        looks_like(text.split("\n"))
        letters(text)
        return time.thread_time() - begun

    seconds(1_000)
    assert min(seconds(80_000) for _ in range(3)) < 20 * max(min(seconds(20_000) for _ in range(3)), 0.05)


def test_many_items_with_one_reference_are_placed_in_linear_time():
    def seconds(size: int) -> float:
        items = [Item(number, {"reply": "x"}, reference=f"r{number % 7}") for number in range(size)]
        rows = [Dialogue(str(number), ("Hi.",), reference=f"r{number % 7}") for number in range(size)]
        begun = time.thread_time()
        assert find_rows(items, rows) == list(range(size))
        return time.thread_time() - begun

    seconds(100)
    assert min(seconds(20_000) for _ in range(3)) < 20 * max(min(seconds(5_000) for _ in range(3)), 0.05)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("jsonl", {"reply": "a", "turns": ["\ud83d"]}),
        ("jsonl", {"reply": "a", "turns": "Hi."}),
        ("parlai", {"dialog": [[{"text": "a", "eval_labels": "Why?"}, {"text": "b"}]]}),
        ("parlai", {"dialog": [[{"text": "a", "labels": {"0": "Why?"}}, {"text": "b"}]]}),
        ("parlai", {"dialog": [[{"text": "a", "labels": [3]}, {"text": "b"}]]}),
        ("empdg-json", {"ref": ["a"], "moel\ud83d": ["b"]}),
    ],
)  # fmt: skip
def test_values_of_a_wrong_kind_are_errors(name, record):
    with pytest.raises(DataError, match=r"must be a list of strings|unpaired surrogate"):
        FORMATS[name].read(Path("f"), [json.dumps(record)])
