"""The bundled dialogues keep the promises of prompts/dialogues/README.md."""

import json
from collections import Counter
from typing import Any

import pytest

from localemp.dialogue import EMOTIONS, Dialogue
from localemp.utils.paths import resource


def read(name: str) -> list[dict[str, Any]]:
    lines = resource("prompts", "dialogues", name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def dialogues(name: str) -> list[Dialogue]:
    return [Dialogue(**{**row, "turns": tuple(row["turns"])}) for row in read(name)]


TRAIN = dialogues("train.jsonl")
SAMPLES = dialogues("samples.jsonl")
EVERYTHING = [*TRAIN, *SAMPLES]


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def repeated(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def test_sizes_and_ids() -> None:
    assert [d.id for d in TRAIN] == [f"bundled-{n:03d}" for n in range(1, 581)]
    assert [d.id for d in SAMPLES] == [f"sample-{n:02d}" for n in range(1, 13)]


@pytest.mark.parametrize("dialogue", EVERYTHING, ids=lambda d: d.id)
def test_a_dialogue_is_complete(dialogue: Dialogue) -> None:
    assert dialogue.emotion in EMOTIONS
    assert dialogue.situation and dialogue.situation.endswith((".", "!"))
    assert dialogue.reference
    assert len(dialogue.turns) in (1, 3, 5)
    texts = [dialogue.situation, *dialogue.complete_turns]
    assert texts == [" ".join(text.split()) for text in texts], "stray white space"
    # Markers would be read as turns of their own in the transcript layout.
    assert not [text for text in texts if "Speaker:" in text or "Listener:" in text]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_emotion_has_exemplars(emotion: str) -> None:
    assert sum(d.emotion == emotion for d in TRAIN) >= 18


def test_samples_have_different_emotions() -> None:
    assert repeated([str(d.emotion) for d in SAMPLES]) == []


def test_no_text_appears_twice() -> None:
    assert repeated([normal(turn) for d in EVERYTHING for turn in d.complete_turns]) == []
    assert repeated([normal(str(d.situation)) for d in EVERYTHING]) == []


def test_samples_share_nothing_with_the_exemplars() -> None:
    train = {normal(text) for d in TRAIN for text in (str(d.situation), *d.complete_turns)}
    samples = {normal(text) for d in SAMPLES for text in (str(d.situation), *d.complete_turns)}
    assert train & samples == set()
