"""A real server that the tester names: what docs/servers.md says of the servers that were tried.

export LOCALEMP_TEST_URL=http://localhost:8080/v1 LOCALEMP_TEST_MODEL=mine
python -m pytest -n0 -s -m slow tests/real/test_named_server.py
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import OpenAIEngine
from localemp.errors import PromptTooLongError
from localemp.sampling import Sampling

URL, MODEL = (os.environ.get(f"LOCALEMP_TEST_{name}", "") for name in ("URL", "MODEL"))
ASKED = [Message("user", "Is the sky blue? Answer yes or no.")]
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (URL and MODEL), reason="LOCALEMP_TEST_URL and LOCALEMP_TEST_MODEL name no server"),
]


@pytest.fixture
async def engine() -> AsyncIterator[OpenAIEngine]:
    async with OpenAIEngine(MODEL, URL) as engine:
        yield engine


def show(what: str, *answers: Completion) -> None:
    for each in answers:
        counts = f"{each.prompt_tokens} ({each.cached_tokens} cached) + {each.completion_tokens} tokens"
        print(f"{what}: {each.text!r}, {counts}, {each.finish_reason}, {each.cost}, {each.notes}")


@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
def test_generate(localemp: Any, strategy: str) -> None:
    words = ("--model", MODEL, "--base-url", URL, "--data", "samples", "--limit", 2, "--strategy", strategy)
    done = localemp("generate", *words, "--out", "run", "--max-tokens", 24, "--seed", 3)
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "2 replies, 0 failed" in done.stdout + done.stderr


async def test_every_parameter_is_taken_or_told(engine: OpenAIEngine) -> None:
    show("plain", plain := await engine.chat(ASKED, Sampling(16)))
    assert plain.prompt_tokens
    show("all", await engine.chat(ASKED, Sampling(16, 0.7, 0.9, seed=3, stop=("zebra",), repetition_penalty=1.2)))
    print("context:", engine.context_length, "changed:", engine.describe()["changed_parameters"])


async def test_several_answers(engine: OpenAIEngine) -> None:
    found = await engine.candidates(ASKED, Sampling(16, 0.9, seed=3), 3)
    show("candidate", *found)
    assert len(found) == 3


async def test_a_schema_and_choices(engine: OpenAIEngine) -> None:
    show("schema", await engine.chat(ASKED, Sampling(64, schema=SCHEMA)))
    got = await engine.chat(ASKED, Sampling(4, choices=("yes", "no")))
    print("choices:", got.choices, got.choice_mass)


async def test_a_prompt_that_is_too_long_is_not_answered(engine: OpenAIEngine) -> None:
    if not engine.context_length or engine.context_length > 50_000:
        pytest.skip(f"the server's context has {engine.context_length} tokens: nothing is sent that would fill it")
    with pytest.raises(PromptTooLongError) as raised:
        await engine.chat([Message("user", "I am so sad. " * (engine.context_length // 2))], Sampling(16))
    print(raised.value.message, "|", raised.value.hint)
