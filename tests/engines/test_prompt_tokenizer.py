"""Prompts of local models: the chat template, and what decoding hides of thinking."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from localemp.dialogue import Message
from localemp.engines.tokens import PromptTokenizer
from localemp.engines.vllm.thinking import ThoughtParser
from localemp.errors import EngineError
from localemp.protocol.thinking import Split

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_tokenizer import TEMPLATE, write_tokenizer

ASKED = [Message("user", "Sad .")]


def test_a_prompt_is_rendered_and_then_encoded(tmp_path):
    tokenizer = PromptTokenizer(write_tokenizer(tmp_path))
    prompt = tokenizer.render(ASKED)
    assert prompt == "<|user|>Sad .<|assistant|>"
    assert tokenizer.encode(ASKED) == tokenizer.ids(prompt)


@pytest.mark.parametrize(
    ("template", "prompt", "tokens"),
    [(TEMPLATE, "<|assistant|>", "Sad"), (None, "Listener:", " Sad"), (None, "Listener: ", "Sad"), (None, "", "Sad")],
    ids=["chat", "in-the-same-text", "after-a-space", "nothing-before"],
)
def test_an_answer_begins_where_the_prompt_ends(tmp_path, template, prompt, tokens):
    folder = write_tokenizer(tmp_path, template=template)
    letters = Tokenizer(models.WordLevel({letter: number for number, letter in enumerate("? Sad")}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    letters.save(str(folder / "tokenizer.json"))
    tokenizer = PromptTokenizer(folder)
    assert tokenizer.answer_ids(prompt, "Sad") == [letters.token_to_id(letter) for letter in tokens]


def test_tokenizers_of_one_vocabulary_and_template_are_the_same(tmp_path):
    one, same, other, bare = (
        PromptTokenizer(write_tokenizer(tmp_path / name, **told)).describe()
        for name, told in (
            ("one", {}),
            ("same", {}),
            ("other", {"added": ("<think>",)}),
            ("bare", {"template": None}),
        )
    )
    assert one == same
    assert one["tokenizer_sha256"] != other["tokenizer_sha256"] and one["template_sha256"] == other["template_sha256"]
    assert (bare["tokenizer_sha256"], bare["template_sha256"]) == (one["tokenizer_sha256"], None)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{{ raise_exception('Conversation roles must alternate') }}",
            "TemplateError: Conversation roles must alternate",
        ),
        ("{{ messages[3].content }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages | unknown }}", "unknown"),
    ],
)
def test_a_template_that_refuses_a_dialogue_is_an_error_of_this_one(tmp_path, template, said):
    tokenizer = PromptTokenizer(write_tokenizer(tmp_path, template=template))
    with pytest.raises(EngineError, match=said):
        tokenizer.encode(ASKED)
    assert not tokenizer.takes_system_role()


@pytest.mark.parametrize(
    ("special", "added", "kept"),
    [
        ((), ("<think>", "</think>"), False),
        (("[THINK]", "[/THINK]"), (), True),
        (("<|channel|>", "<|message|>", "<|end|>", "<|start|>"), (), True),
        (("<|end|>",), (), False),  # Phi's end of a turn
    ],
)
def test_marks_that_decoding_would_hide_are_kept(tmp_path, special, added, kept):
    assert ThoughtParser(PromptTokenizer(write_tokenizer(tmp_path, special, added)), {}).keep_marks == kept


def test_marks_that_only_the_tokenizers_own_file_calls_special_are_kept(tmp_path):
    folder = write_tokenizer(tmp_path, added=("<think>", "</think>"))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for token in content["added_tokens"]:
        token["special"] = True
    path.write_text(json.dumps(content))
    tokenizer = PromptTokenizer(folder)
    parser, ids = ThoughtParser(tokenizer, {}), tokenizer.ids("Sad . </think> Oh no .")
    split = parser.split(tokenizer.decode(ids, keep_special=parser.keep_marks), "... <think>\n")
    assert (parser.keep_marks, split.text.strip(), parser.count(ids, split)) == (True, "Oh no .", 3)


@pytest.mark.parametrize(
    ("text", "prompt", "tokens"),
    [
        ("Oh no .", "", 0),
        ("[THINK] Sad . [/THINK] Oh no . <eos>", "", 4),
        ("[THINK] Oh no . [/THINK] Oh no .", "", 5),
        ("Sad . [/THINK] Oh no .", "... [THINK]\n", 3),
        ("Sad . Oh", "... [THINK]\n", 3),
        ("[THINK] Sad . [/THINK] <eos>", "", 5),  # no answer
        ("Sad . [/THINK] Oh [/THINK] no .", "... [THINK]\n", 3),  # a special token in the answer
    ],
)
def test_the_tokens_of_thinking_are_counted_with_their_marks(tmp_path, text, prompt, tokens):
    tokenizer = PromptTokenizer(write_tokenizer(tmp_path, ("[THINK]", "[/THINK]")))
    parser, ids = ThoughtParser(tokenizer, {}), tokenizer.ids(text)
    assert parser.count(ids, parser.split(tokenizer.decode(ids, keep_special=True), prompt)) == tokens


@pytest.mark.parametrize(
    ("prompt", "ends"),
    [("... assistant\n", True), ("... [THINK]\n", False), ("... <think>\n\n</think>\n", True), ("... <own>\n", False)],
    ids=["no-thought", "open", "closed", "open-by-a-mark-of-its-own"],
)
def test_a_schema_would_hold_the_thought_that_a_prompt_opens(tmp_path, prompt, ends):
    marks = {"reasoning_start_str": "<own>", "reasoning_end_str": "</own>"}
    parser = ThoughtParser(PromptTokenizer(write_tokenizer(tmp_path)), {"reasoning_config": marks})
    assert parser.ends_before_answer(prompt) == ends


def test_an_answer_that_is_not_in_the_tokens_leaves_the_count_unknown(tmp_path):
    tokenizer = PromptTokenizer(write_tokenizer(tmp_path))
    assert ThoughtParser(tokenizer, {}).count(tokenizer.ids("Sad . Oh"), Split("Where?", "Sad")) is None


@pytest.mark.parametrize(
    ("text", "prompt", "split"),
    [
        ("Oh no.", "", ("Oh no.", "")),
        ("[THINK]Sad.[/THINK]Oh no.<eos>", "", ("Oh no.", "Sad.")),
        ("Sad.[/THINK]Oh no.", "... [THINK]\n", ("Oh no.", "Sad.")),
        ("Sad", "... [THINK]\n", ("", "Sad")),
    ],
)
def test_a_text_of_a_local_model_is_split(tmp_path, text, prompt, split):
    assert (
        ThoughtParser(PromptTokenizer(write_tokenizer(tmp_path, ("[THINK]", "[/THINK]"))), {}).split(text, prompt)
        == split
    )
