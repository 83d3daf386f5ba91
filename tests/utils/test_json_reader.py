"""The reader of foreign JSON: whatever it is given, it is a value or a JSONError."""

import json
import random

import pytest

from localemp.utils.json_reader import MAX_DEPTH, JSONError, load_json, parse_json


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        (" \n ", "it is empty"),
        (b"", "it is empty"),
        ("{", "not valid JSON: Expecting property name"),
        ('{"a": 1} x', "not valid JSON: Extra data at character 10"),
        (b"\xff\xfe{\x00", "not valid UTF-8"),
        (nested(MAX_DEPTH + 1), "nested more than 100 levels"),
        (nested(3_000), "nested more than 100 levels"),
        (nested(200_000), "nested more than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 levels"),
        ("9" * 5_000, "too many digits"),
        ('{"n": -' + "9" * 5_000 + "}", "too many digits"),
    ],
)
def test_unusable(text, said):
    with pytest.raises(JSONError, match=said):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("\ufeff[1]", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        ("\n  \n{}", {}),
        (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
        ("[" + ",".join(["[]"] * 500) + "]", [[]] * 500),
        (json.dumps("[" * 500), "[" * 500),
        (b'"\\ud83d"', "\ud83d"),
    ],
)
def test_usable(text, value):
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "it has NaN"),
        ('{"a": [-Infinity]}', "it has -Infinity"),
        ("[1e999]", "out of range"),
        ("[-1E+400]", "out of range"),
        ("1" + "0" * 400 + ".5", "out of range"),
        (b'["\\ud83d"]', "an unpaired surrogate"),
        ('{"\\uDC00": 1}', "an unpaired surrogate"),
        ("\ud83d".join('""'), "an unpaired surrogate"),
    ],
)
def test_what_cannot_be_written_again_is_refused_where_that_is_asked_for(text, said):
    parse_json(text)
    with pytest.raises(JSONError, match=said):
        parse_json(text, storable=True)


def test_what_only_looks_like_it_is_storable():
    value = {"a": "\U0001f600", "b": 1e300, "c": int("9" * 400), "d": "1e999 NaN \\ud83d"}
    assert parse_json(json.dumps(value), storable=True) == value


@pytest.mark.parametrize("text", ["[1,2,3]", b"[1,2,3]", '{"a":[],"b":1}'])
def test_the_number_of_values_can_be_bounded(text):
    assert parse_json(text, max_values=4) == json.loads(text)
    with pytest.raises(JSONError, match="more than 3 values"):
        parse_json(text, max_values=3)


def test_the_line_is_told():
    with pytest.raises(JSONError) as caught:
        parse_json('{\n"a": 1,\n}')
    assert caught.value.line == 3


def test_what_is_read_can_be_written_again():
    value = parse_json(nested(MAX_DEPTH))
    assert parse_json(json.dumps(value)) == value


def test_mutants_are_values_or_errors():
    draw = random.Random(7)
    whole = json.dumps({"a": [1, {"b": "é\n"}, None, 1e5], "c": "\ud83d", "d": [[[]]]}).encode()
    for _ in range(2_000):
        mutant = bytearray(whole)
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(mutant))
            mutant[at : at + draw.randint(0, 3)] = draw.choice([b"", b"\x00", b"[", b"\xff", b"9" * 50, b'"', b"\\u"])
        try:
            parse_json(bytes(mutant))
        except JSONError as error:
            assert str(error)


def test_files_are_bounded(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1]")
    assert load_json(path) == [1]
    path.write_bytes(b" " * 2**20 + b"[1]")
    with pytest.raises(JSONError, match="more than 1 MiB"):
        load_json(path, 2**20)
    with pytest.raises(OSError, match="No such file"):
        load_json(tmp_path / "nowhere.json")
