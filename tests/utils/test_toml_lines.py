"""The lines of keys in TOML, found for all that Python's own reader finds."""

import time
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from patience import patience
from repository import REPOSITORY

from localemp.utils.toml_lines import Place, line_of, lines_of_keys

FILES = sorted(
    path
    for folder in ("prompts", "models", "localemp/experiments/plans")
    for path in (REPOSITORY / folder).rglob("*.toml")
)
HOSTILE = '''# [[stages]]
about = "x" # [[stages]]
"so\\u0075rce" = 'y = 1'

[[stages]]
name = """
[[stages]]
ask = "no"
a""b\\\\"""\t
turns = [
  { user = "a, ]" }, # ]
  [ "x", """
  ],]""" , { a.b = 1, "c" = [ ] } ],

  3,
]
sampling.temperature = 1.0
[stages.branch."a b"]
"Q.x" = "y"

  [[stages]]
name = \'\'\'
]]\'\'\'\'\'
[stages.sampling]
n = 3
[[stages.more]]
k = 1
[ other . 'x y' ]
k = {}'''


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every key and every entry of a list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


def value_at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_keys_of_real_files_stand_in_their_lines(path):
    text = path.read_text("utf-8")
    lines, source, values = lines_of_keys(text), text.split("\n"), tomllib.loads(text)
    for place in places(values):
        if place in lines and isinstance(place[-1], str):
            assert place[-1] in source[lines[place] - 1], place
        # A table that only has tables, and no header of its own, has no line.
        assert place in lines or isinstance(value_at(values, place), dict)


def test_texts_that_look_like_keys_are_none():
    tomllib.loads(HOSTILE)
    lines = lines_of_keys(HOSTILE)
    assert {place: lines[place] for place in lines if place[:1] != ("stages",)} == {
        ("about",): 2,
        ("source",): 3,
        ("other", "x y"): 28,
        ("other", "x y", "k"): 29,
    }
    assert {place[1:]: line for place, line in lines.items() if place[:1] == ("stages",)} == {
        (): 5,
        (0,): 5,
        (0, "name"): 6,
        (0, "turns"): 10,
        (0, "turns", 0): 11,
        (0, "turns", 0, "user"): 11,
        (0, "turns", 1): 12,
        (0, "turns", 1, 0): 12,
        (0, "turns", 1, 1): 12,
        (0, "turns", 1, 2): 13,
        (0, "turns", 1, 2, "a", "b"): 13,
        (0, "turns", 1, 2, "c"): 13,
        (0, "turns", 2): 15,
        (0, "sampling", "temperature"): 17,
        (0, "branch", "a b"): 18,
        (0, "branch", "a b", "Q.x"): 19,
        (1,): 21,
        (1, "name"): 22,
        (1, "sampling"): 24,
        (1, "sampling", "n"): 25,
        (1, "more"): 26,
        (1, "more", 0): 26,
        (1, "more", 0, "k"): 27,
    }
    assert set(lines_of_keys(HOSTILE.replace("\n", "\r\n")).items()) == set(lines.items())


def test_a_place_without_a_line_has_that_of_what_is_around_it():
    lines = lines_of_keys("[[stages]]\nask = 1\n")
    assert line_of(("stages", 0, "name"), lines) == 1
    assert line_of(("stages", 0, "ask", 3), lines) == 2
    assert line_of(("about",), lines) is None


@pytest.mark.parametrize(
    "text",
    ["a = 1\n" * 170_000, "[[s]]\n" * 170_000, "a = [" + "[]," * 300_000 + "]", 'a = """' + '"" ' * 300_000 + '"""'],
    ids=["keys", "tables", "list", "quotes"],
)
def test_a_large_file_takes_seconds(text):
    start = time.perf_counter()
    lines_of_keys(text)
    assert time.perf_counter() - start < patience(20)
