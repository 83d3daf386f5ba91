"""What counts as a fault of a reply in benchmarks/listener_quality.py, by examples."""

import sys

import pytest
from repository import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

from listener_quality import faults, faults_of
from reply_faults import loops, other_turn, runs_of


@pytest.mark.parametrize(
    "text",
    [
        "I'm so sorry for your loss. I'm so sorry for your loss.",
        "I am sorry to hear that! How are you? I am sorry to hear that.",
        "You want to be a good friend, to be a good friend.",
        "It was a very very very very long day.",
        "so sad, so sad, so sad, so sad",
        "He wants to go home, she wants to go home, and they wants to go home.",
        "line of words\nline of words",
        "The relations are: 1. Unrealistic 2. Unrealistic 3. Unrealistic 4. Unrealistic",
    ],
)
def test_a_loop(text):
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Oh no. Oh no. What happened?",
        "No, no, no! You did well.",
        "That is very, very kind of you.",
        "I hope that it works out. I hope that you tell me.",
        "Did you win the game? I did not know that you won the game.",
        "I had had enough. That that is, is.",
    ],
)
def test_no_loop(text):
    assert not loops(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Oh no!\nSpeaker: I was sad.", True),
        ("Oh no! User: I was sad.", True),
        ("Listener: Oh no! Listener: How are you?", True),
        ("Listener: Oh no!", False),
        ("speaker 2: hello", True),
        ("The loudspeaker: what a noise! Dear listener, go on.", False),
        ("One thing: I am a good listener.", False),
    ],
)
def test_another_turn(text, is_one):
    assert other_turn(text) is is_one


def test_runs_do_not_go_from_one_text_into_the_next():
    assert runs_of(["one two three four", "five six seven eight"]) == set()
    assert runs_of(["One two three four, FIVE six seven eight!"]) == {
        ("one", "two", "three", "four", "five", "six", "seven", "eight")
    }


TASK = "This is an empathetic dialogue task: The first worker is given an emotion label."
TURN = "I was so happy when my sister came home from the war last week."


def record(reply, stage_1=None, raw=None, reason="stop"):
    asked = [{"role": "system", "content": TASK}, {"role": "user", "content": TURN}]
    stages = [{"messages": asked, "text": reply, "finish_reason": reason}]
    if stage_1 is not None:
        thought = [*asked, {"role": "assistant", "content": stage_1}]
        stages = [{"messages": asked, "text": stage_1, "finish_reason": "stop"}, {**stages[0], "messages": thought}]
    return {
        "id": "a", "reply": reply, "raw": raw or reply, "turns": [TURN], "stages": stages, "finish_reason": reason,
        "reference": "Wow.", "emotion": "joyful",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (record("How lovely!"), set()),
        (record("The first worker is given an emotion label, I see."), {"prompt"}),
        (record("an empathetic dialogue task: the first worker"), set()),
        (record("So my sister came home from the war last week."), {"dialogue"}),
        (record("She is happy since she has her sister back.", "She is happy since she has her sister."), {"stage 1"}),
        (record("How lovely", reason="length"), {"limit"}),
        (record("How lovely!", raw="How lovely!\nSpeaker: Yes."), {"turn, raw"}),
        (record(" "), {"empty"}),
    ],
)  # fmt: skip
def test_faults_of_a_reply(one, found):
    assert faults_of(one) == found


def test_shares_are_percent_of_the_replies():
    told = faults([record("How lovely!") | {"id": str(n)} for n in range(3)] + [record("")])
    assert told["faults"]["empty"] == 25
    assert told["faults"]["loop"] == 0
    assert told["faulty"]["empty"] == ["a"]
    assert told["words"] == {"median": 2, "mean": 1.5}
