"""vLLM's own parsers of thinking; no engine is started."""

import sys
from pathlib import Path

import pytest

from localemp.engines.tokens import PromptTokenizer
from localemp.engines.vllm.thinking import ThoughtParser
from localemp.errors import UnknownNameError

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_tokenizer import write_tokenizer

pytest.importorskip("vllm", reason="its parsers are what is tested")
ANSWER = "Oh no, your keys."
MARKS = ("<think>", "</think>", "<seed:think>", "</seed:think>")


@pytest.fixture
def tokenizer(tmp_path):
    return PromptTokenizer(write_tokenizer(tmp_path, added=MARKS))


@pytest.mark.parametrize(
    ("parser", "text", "split"),
    [
        ("deepseek_r1", f"Sad.</think>{ANSWER}", (ANSWER, "Sad.")),
        ("deepseek_r1", "So the speaker", ("", "So the speaker")),
        ("qwen3", f"<think>\nSad.\n</think>\n\n{ANSWER}", (ANSWER, "Sad.")),
        ("seed_oss", f"<seed:think>Sad.</seed:think>{ANSWER}", (ANSWER, "Sad.")),
        # Reads nothing but streams of tokens: the marks are read instead.
        (
            "openai_gptoss",
            f"<|channel|>analysis<|message|>Sad.<|end|><|channel|>final<|message|>{ANSWER}",
            (ANSWER, "Sad."),
        ),
    ],
)
def test_a_parser_that_is_named_reads_the_text(tokenizer, parser, text, split):
    thoughts = ThoughtParser(tokenizer, {"reasoning_parser": parser})
    assert thoughts.split(text, "") == split
    assert thoughts.ends_before_answer("... <think>\n"), "vLLM asks the parser where a schema begins"


def test_a_parser_that_vllm_does_not_have(tokenizer):
    with pytest.raises(UnknownNameError, match="unknown reasoning parser 'telepathy'") as raised:
        ThoughtParser(tokenizer, {"reasoning_parser": "telepathy"})
    assert "are known" in raised.value.hint
    with pytest.raises(UnknownNameError) as raised:
        ThoughtParser(tokenizer, {"reasoning_parser": "qwen33"})
    assert raised.value.hint.startswith("did you mean 'qwen3'?")
