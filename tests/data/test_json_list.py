"""One JSON list, item by item: wherever its text is cut, it gives what the whole gives."""

import json
import time

import pytest

from localemp.data.json_list import LONGEST_ITEM, iterate_items
from localemp.utils.json_reader import JSONError

ITEMS = [
    {"a": 'He said "[no]", {then} left.\\', "b": [1, {"c": None}]},
    {},
    [],
    "x",
    12,
    -1.5e3,
    True,
    None,
    "é\u2028\n",
]


def pieces(text, size):
    return (text[at : at + size] for at in range(0, len(text), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("items", [ITEMS, [], [[]], [7], ITEMS * 20])
def test_items(size, indent, items):
    text = "\n " + json.dumps(items, indent=indent) + "\r\n"
    assert list(iterate_items(pieces(text, size))) == items


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    ("text", "count", "message", "line"),
    [
        ("", 0, "the list does not end", 1),
        ("[", 0, "the list does not end", 1),
        ("{}", 0, "'{' where a list is expected", 1),
        ('[{"a": 1},\n{"b": 2}', 2, "the list does not end", 2),
        ('[{"a": 1},\n{"b": 2},\n', 2, "the list does not end", 3),
        ('[{"a": 1},\n{"b": \n2', 1, "Expecting ',' delimiter", 3),
        ('[{"a": 1},\n{"b": x}, {}]', 1, "Expecting value", 2),
        ('[{"a": 1}\n{"b": 2}]', 1, "'{' where a comma or the end of the list is expected", 2),
        ("[1,]", 1, "Expecting value", 1),
        ("[,1]", 0, "Expecting value", 1),
        ("[1]\n\n]", 1, "']' where the end of the file is expected", 3),
        ("[1] [2]", 1, "'[' where the end of the file is expected", 1),
        ('["a\n"]', 0, "Invalid control character", 1),
        ("[" * 5000, 0, "nested more than 100 levels", 1),
        ("[1, " + "[" * 200 + "]" * 200 + "]", 1, "nested more than 100 levels", 1),
        ("[" + "1" * 5000 + "]", 0, "too many digits", 1),
    ],
    ids=range(16),
)
def test_damaged(size, text, count, message, line):
    found = []
    with pytest.raises(JSONError, match=message.replace("[", r"\[")) as caught:
        found += iterate_items(pieces(text, size))
    assert caught.value.line == line
    items = iterate_items(pieces(text, size))
    for _ in range(count):
        next(items)
    with pytest.raises(JSONError):
        next(items)


def test_items_come_before_the_list_ends():
    def endless():
        yield "["
        while True:
            yield '{"a": 1}, '

    items = iterate_items(endless())
    assert [next(items) for _ in range(1000)] == [{"a": 1}] * 1000


@pytest.mark.parametrize("filler", ['"' + "x" * 2**20, "[" * 2**20, '{"a": "x"}' * 2**17])
def test_an_item_without_end_is_refused_in_linear_time(filler):
    began = time.process_time()
    sent = 0

    def endless():
        nonlocal sent
        yield "["
        while True:
            sent += len(filler)
            yield filler if sent == len(filler) else filler.replace('"', "x")

    with pytest.raises(JSONError):
        list(iterate_items(endless()))
    assert sent < 3 * LONGEST_ITEM
    assert time.process_time() - began < 20
