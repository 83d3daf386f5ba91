"""A model that refuses fields which strategies send is asked without them, or by their other name."""

from typing import Any

import openai
import pytest
from model_app import ModelApp

from localemp.pipeline.config import RunConfig
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings

TALK: Any = [{"role": "user", "content": "My dog died."}]


@pytest.fixture
def model() -> ModelApp:
    return ModelApp()


@pytest.fixture
def app(model: ModelApp) -> StrategyMiddleware:
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", reasoning_effort="low")
    return StrategyMiddleware(model.app, ServeSettings.of("tiny", config, strategies=("zero-shot",)))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_app_that_knows_a_limit_by_another_name_is_asked_by_it(client: openai.OpenAI, model: ModelApp, stream: bool):
    model.refuses = {"max_tokens", "temperature", "top_p"}
    for _ in range(2):
        got = client.chat.completions.create(model="tiny:zero-shot", messages=TALK, stream=stream)
        assert list(got) if stream else got.choices
    assert [sorted(asked.keys() & {"max_tokens", "max_completion_tokens"}) for asked in model.asked] == [
        ["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"], ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]  # fmt: skip
    assert model.asked[-1]["max_completion_tokens"] == 128 + 2048, "with room for reasoning"
    got = client.chat.completions.create(model="tiny:zero-shot", messages=TALK, max_tokens=7, stream=stream)
    assert list(got) if stream else got.choices
    assert model.asked[-1]["max_completion_tokens"] == 7, "the client's, too"


def test_a_client_learns_that_it_cannot_choose_a_temperature(client: openai.OpenAI, model: ModelApp):
    model.refuses = {"temperature"}
    for _ in range(2):
        with pytest.raises(openai.BadRequestError, match="Unsupported parameter: 'temperature'"):
            client.chat.completions.create(model="tiny:zero-shot", messages=TALK, temperature=0.5)
        assert client.chat.completions.create(model="tiny:zero-shot", messages=TALK).choices


def test_the_effort_that_the_operator_chose_is_sent_unless_a_client_chooses(client: openai.OpenAI, model: ModelApp):
    client.chat.completions.create(model="tiny:zero-shot", messages=TALK)
    client.chat.completions.create(model="tiny:zero-shot", messages=TALK, reasoning_effort="high")
    assert [asked["reasoning_effort"] for asked in model.asked] == ["low", "high"]
