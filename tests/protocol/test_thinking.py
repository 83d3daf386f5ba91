"""Thinking that a model leaves in its text."""

import random

import pytest

from localemp.protocol.thinking import ThinkingSplitter, opens_thinking, split_thinking

ANSWER = "Oh no, where did you last see them?"
HARMONY = "<|channel|>analysis<|message|>Sad.<|end|><|start|>assistant<|channel|>final<|message|>" + ANSWER

CASES = [
    ("", "", ""),
    (ANSWER, ANSWER, ""),
    ("I <3 you [sic] ◁", "I <3 you [sic] ◁", ""),
    (f"<think>\nSad.\n</think>\n\n{ANSWER}", ANSWER, "Sad."),
    (f"<THINK>Sad.</THINK>{ANSWER}", ANSWER, "Sad."),
    (f"\n<think>Sad.</think>{ANSWER}", ANSWER, "Sad."),
    (f"<think>\n\n</think>\n\n{ANSWER}", ANSWER, ""),
    (f"Sad.\n</think>\n\n{ANSWER}", ANSWER, "Sad."),
    ("<think>\nThe speaker lost", "", "The speaker lost"),
    ("<think>", "", ""),
    (f"{ANSWER}\n<think>and then", ANSWER + "\n", "and then"),
    (f"[THINK]Sad.[/THINK]{ANSWER}", ANSWER, "Sad."),
    (f"<thinking>Sad.</thinking> {ANSWER}", ANSWER, "Sad."),
    (f"<thought>Sad.</thought>{ANSWER}", ANSWER, "Sad."),
    (f"<reasoning>Sad.</reasoning>{ANSWER}", ANSWER, "Sad."),
    (f"◁think▷Sad.◁/think▷{ANSWER}", ANSWER, "Sad."),
    (f"<|START_THINKING|>Sad.<|END_THINKING|>{ANSWER}", ANSWER, "Sad."),
    (f"<think>a <b> [x] </b></think>{ANSWER}", ANSWER, "a <b> [x] </b>"),
    (f"<think>one</think>Oh. <think>two</think>{ANSWER}", "Oh. " + ANSWER, "one\ntwo"),
    (f"<think>a [/THINK] b</think>{ANSWER}", ANSWER, "a [/THINK] b"),
    ("<think>a</think>The tag </think> closes", "The tag </think> closes", "a"),
    (HARMONY, ANSWER, "Sad."),
    (HARMONY + "<|return|>", ANSWER, "Sad."),
    ("<|start|>assistant" + HARMONY, ANSWER, "Sad."),
    (f"<|start|>assistant<|message|>{ANSWER}<|end|>", ANSWER, ""),
    (f"<|channel|>final<|message|>{ANSWER}", ANSWER, ""),
    ("<|channel|>analysis<|message|>The speaker lost", "", "The speaker lost"),
    ("<|channel|>analysis", "", ""),
    (f"<|channel|>commentary to=x<|message|>Hm.<|end|><|channel|>final<|message|>{ANSWER}", ANSWER, "Hm."),
    (f"analysisSad.assistantfinal{ANSWER}", ANSWER, "Sad."),
    ("analysis of your keys is hard", "analysis of your keys is hard", ""),
]


@pytest.mark.parametrize(("text", "answer", "thinking"), CASES)
def test_whole(text, answer, thinking):
    assert split_thinking(text) == (answer, thinking)


@pytest.mark.parametrize(("text", "answer", "thinking"), [case for case in CASES if "assistantfinal" not in case[0]])
def test_bit_by_bit(text, answer, thinking):
    draw = random.Random(text)
    for size in (1, 2, 3, 9, None):
        splitter = ThinkingSplitter()
        parts, at = [], 0
        while at < len(text):
            step = size or draw.randint(1, 12)
            parts.append(splitter.feed(text[at : at + step]))
            at += step
        parts.append(splitter.end())
        assert (splitter.text, splitter.thinking) == (answer, thinking)
        if not splitter.unopened:
            assert "".join(part.text for part in parts).strip() == answer.strip()


def test_a_prompt_that_opens_the_thought():
    assert opens_thinking("<|im_start|>assistant\n<think>\n")
    assert not opens_thinking("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert split_thinking("The speaker lost", opened=True) == ("", "The speaker lost")
    assert split_thinking(f"Sad.</think>{ANSWER}", opened=True) == (ANSWER, "Sad.")


def test_a_closing_mark_alone_teaches():
    first = ThinkingSplitter()
    first.feed("Sad.</think>Oh")
    assert first.unopened
    second = ThinkingSplitter(opened=first.unopened)
    assert second.feed("Sad.") == ("", "Sad.")
    assert second.feed("</think>\n\nOh").text == "Oh"


@pytest.mark.parametrize(
    "piece", ["<", "<think>", "</think>", "[", "<|channel|>", "<|", "<thin", "◁", "<think>a</think>b"]
)
def test_long_runs_take_linear_time(piece):
    import time

    def seconds(count):
        text = piece * count
        started = time.thread_time()
        split_thinking(text)
        splitter = ThinkingSplitter()
        for at in range(0, len(text), 5):
            splitter.feed(text[at : at + 5])
        splitter.end()
        return time.thread_time() - started

    assert min(seconds(40_000) for _ in range(3)) < 20 * max(min(seconds(5_000) for _ in range(3)), 0.01)
