"""What the embedded listener learns from: which tokens of a conversation count, and what a pass shows."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from repository import REPOSITORY
from tiny_tokenizer import write_tokenizer

from localemp.dialogue import EMOTIONS, Dialogue, Message
from localemp.engines.tokens import PromptTokenizer

sys.path.append(str(REPOSITORY / "models" / "training"))
import listener_examples as training

TURN = "<|{{ m.role }}|>{{ m.content }}{{ '<eos>' if m.role == 'assistant' }}"
TEMPLATE = "{% for m in messages %}" + TURN + "{% endfor %}<|assistant|>"
DIALOGUES = training.read_dialogues(None)


@pytest.fixture
def tokenizer(tmp_path: Path) -> PromptTokenizer:
    return PromptTokenizer(write_tokenizer(tmp_path, template=TEMPLATE))


def learnt(example: training.Example, tokenizer: PromptTokenizer) -> str:
    kept = [token for token, weight in zip(example.ids, example.weights, strict=True) if weight]
    return str(tokenizer.tokenizer.decode(kept))


def test_answers_and_their_ends_are_learnt(tokenizer: PromptTokenizer) -> None:
    messages = [
        Message("user", "Sad."),
        Message("assistant", "Oh no."),
        Message("user", "Oh."),
        Message("assistant", "Sad"),
    ]
    example = training.tokenized("a", messages, {"Oh no.", "Sad"}, tokenizer, None, 4.0)
    assert learnt(example, tokenizer) == "Oh no . <eos> Sad <eos>"
    assert len(example.ids) == len(example.weights)


def test_other_messages_of_the_assistant_are_only_read(tokenizer: PromptTokenizer) -> None:
    messages = [
        Message("user", "Sad."),
        Message("assistant", "no no"),
        Message("user", "Oh."),
        Message("assistant", "Sad"),
    ]
    example = training.tokenized("a", messages, {"Sad"}, tokenizer, None, 4.0)
    assert learnt(example, tokenizer) == "Sad <eos>"
    assert "no no" in tokenizer.tokenizer.decode(example.ids)


def test_a_template_that_rewrites_what_was_said_is_refused(tmp_path: Path) -> None:
    forgetful = "{% for m in messages[-2:] %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
    tokenizer = PromptTokenizer(write_tokenizer(tmp_path, template=forgetful))
    messages = [Message("user", "Sad."), Message("assistant", "Oh"), Message("user", "no"), Message("assistant", "Sad")]
    with pytest.raises(ValueError, match="a: the chat template changes the beginning"):
        training.tokenized("a", messages, {"Oh", "Sad"}, tokenizer, None, 4.0)


def test_stage_one_names_only_what_is_not_given() -> None:
    dialogue = Dialogue("a", ("I lost my job.",), emotion="sad", situation="I lost my job.")
    assert training.feeling(dialogue) == "The user's emotion may be sad. The situation may be: I lost my job."
    assert training.feeling(dialogue, ("emotion",)) == "The situation may be: I lost my job."
    assert training.feeling(dialogue, ("situation",)) == "The user's emotion may be sad."


def test_a_pass_shows_everything_and_is_the_same_for_the_same_seed() -> None:
    first, again, other = (training.shown(DIALOGUES, number, 0) for number in (0, 0, 1))
    assert first == again != other
    times = Counter(dialogue.id for _, some in first for dialogue in some)
    assert times == {each.id: 1 if each.id.startswith("situation-") else 2 for each in DIALOGUES}


def test_every_emotion_is_told_apart_in_two_stages() -> None:
    told = {d.emotion for (_, name, _), some in training.shown(DIALOGUES, 0, 0) if "two-stage" in name for d in some}
    assert told == set(EMOTIONS)


def test_what_it_learns_from_was_written_for_localemp() -> None:
    assert {each.id.rpartition("-")[0] for each in DIALOGUES} == {"bundled", "situation"}
    assert all(each.reference and each.situation and each.emotion in EMOTIONS for each in DIALOGUES)
    texts = Counter(" ".join(turn.lower().split()) for each in DIALOGUES for turn in each.complete_turns)
    assert [text for text, count in texts.items() if count > 1] == []
