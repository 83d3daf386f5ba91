"""What goes from the beginning of a text that is too long; the tokenizer here splits at white space."""

import random
import re
import time

import pytest

from localemp.utils.truncation import beginning_in_sight, cut_beginning, end_in_sight, sentence_starts


def words(text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
    return {"offset_mapping": [found.span() for found in re.finditer(r"\S+", text)]}


def kept(text: str, room: int, fixed: int = 0) -> str:
    """What is left of a text where so many words fit, of which some are always there."""
    return text[cut_beginning(text, room, words, lambda end: len(end.split()) + fixed - room) :]


@pytest.mark.parametrize(
    ("text", "room", "left"),
    [
        ("one two three", 3, "one two three"),
        ("One two. Three four. Five six.", 4, "Three four. Five six."),
        ("One two. Three four. Five six.", 5, "Three four. Five six."),
        ("One two. Three four five six.", 3, "four five six."),
        ("one two three four", 2, "three four"),
        ('He said "stop!" Then he left.', 3, "Then he left."),
        ("Wait... what?! (Yes.) No", 2, "(Yes.) No"),
        ("a.b c.d e", 2, "c.d e"),
        ("one two", 0, ""),
    ],
)
def test_whole_sentences_go_and_only_a_sentence_that_is_too_long_is_cut_inside(text: str, room: int, left: str):
    assert kept(text, room) == left


def test_pieces_may_be_something_else_than_sentences():
    text = "a b|c. d|e f"
    cut = cut_beginning(text, 4, words, lambda end: len(end.split()) - 3, lambda end: [end.rindex("|") + 1])
    assert text[cut:] == "e f"


def test_what_is_always_there_takes_its_room():
    assert kept("one two three four", 4, fixed=2) == "three four"
    assert kept("one two", 4, fixed=5) == ""


def test_any_text_is_cut_as_if_all_of_it_had_been_looked_at():
    chance = random.Random(4)
    for _ in range(300):
        text = "".join(chance.choice(["a", "b ", " ", ". ", "\n", "word ", '." ', "?"]) for _ in range(200))
        room = chance.randrange(1, 20)
        end = kept(text, room)
        assert text.endswith(end)
        assert len(end.split()) <= room
        # A sentence more would not fit, and of a single sentence not even a word more.
        longer = [text[start:] for start in [0, *sentence_starts(text)] if len(text) - start > len(end)]
        assert all(len(one.split()) > room for one in longer)


def test_sentences_of_a_hostile_text_are_found_in_time():
    for unit in (".", ". ", ".)", '."', "?!", " ", "…\n"):
        started = time.process_time()
        sentence_starts(unit * (1_000_000 // len(unit)) + "x")
        assert time.process_time() - started < 2  # 0.1; 72 s for 40,000 stops where a run was read from each of them


def test_how_far_an_encoder_can_see():
    assert end_in_sight("short", 3) == beginning_in_sight("short", 3) == "short"
    text = "a" * 300 + "b" * 300
    assert (end_in_sight(text, 2), beginning_in_sight(text, 2)) == ("b" * 256, "a" * 256)
