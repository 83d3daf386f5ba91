"""The room for thinking: in what is planned, in what is sent, and where a server does not know it."""

import json
import sys
from pathlib import Path

import pytest

from localemp.dialogue import Message
from localemp.engines.openai.engine import OpenAIEngine
from localemp.engines.planner import Planner
from localemp.errors import PromptTooLongError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import Answer, FakeServer, Request, completion, error

HI = [Message("user", "Hi.")]
THINKING = Sampling(max_tokens=10, thinking_budget=50)
COUNTED = {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}


def test_a_manifest_has_a_budget_only_where_there_is_one():
    assert Sampling().describe().keys() == {"max_tokens", "temperature", "top_p", "seed", "stop"}
    assert THINKING.describe()["thinking_budget"] == 50


async def test_the_planned_context_holds_thinking_and_reply():
    planner = Planner(lambda _: range(30), 100)
    answer = await planner.chat(HI, THINKING)
    assert (planner.longest, answer.completion_tokens) == (90, 60)
    assert len(answer.text.split()) == 10, "stage 2 reads the answer of stage 1, not its thinking"
    with pytest.raises(PromptTooLongError) as caught:
        await Planner(lambda _: range(30), 80).chat(HI, THINKING)
    assert caught.value.reply_tokens == 60


async def test_a_server_gets_the_switch_the_budget_and_room_for_both():
    with FakeServer(models=Answer(404)) as server:
        server.answers += [Answer(body=completion(usage=COUNTED))]
        config = RunConfig(model="qwen3", base_url=server.url, thinking="on", thinking_budget=50, max_tokens=10)
        pipeline = Pipeline(config)
        async with pipeline.engine() as engine:
            answer = await engine.chat(HI, pipeline.sampling)
        sent = server.requests[0].body
    assert sent["chat_template_kwargs"] == {"enable_thinking": True}
    assert (sent["max_tokens"], sent["thinking_token_budget"]) == (60, 50)
    assert answer.thinking_tokens == 4
    assert pipeline.model_settings()["chat_template_kwargs"] == {"enable_thinking": True}


async def test_a_server_that_is_not_told_gets_what_it_always_got():
    with FakeServer(models=Answer(404)) as server:
        pipeline = Pipeline(RunConfig(model="qwen3", base_url=server.url))
        async with pipeline.engine() as engine:
            answer = await engine.chat(HI, pipeline.sampling)
        sent = server.requests[0].body
    assert sent.keys() == {"model", "messages", "max_tokens", "temperature", "top_p"}
    assert "chat_template_kwargs" not in pipeline.model_settings()
    assert answer.thinking_tokens is None, "the server does not say"


VLLM = "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser"


@pytest.mark.parametrize(
    "message", [VLLM, "Unrecognized request argument supplied: thinking_token_budget"], ids=["vllm", "openai"]
)
async def test_a_server_that_knows_no_budget_is_asked_without_one(message):
    def refuse(request: Request) -> Answer | None:
        return error(400, message) if "thinking_token_budget" in request.body else None

    with FakeServer(models=Answer(404), rule=refuse) as server:
        async with OpenAIEngine("m", server.url) as engine:
            answer = await engine.chat(HI, THINKING)
            again = await engine.chat(HI, THINKING)
        bodies = [request.body for request in server.requests]
    assert [("thinking_token_budget" in body, body["max_tokens"]) for body in bodies] == [
        (True, 60), (False, 60), (False, 60),
    ]  # fmt: skip
    assert answer.notes == again.notes == ("thinking_token_budget dropped: the model refuses it",)


def test_thinking_is_an_option_of_commands_and_recorded(localemp, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"reply": "<think> They are so very sad. </think> Oh no."}))
    words = ("--script", script, "--limit", "2", "--strategy", "two-stage", "--out")
    done = localemp("generate", *words, tmp_path / "on", "--thinking", "on", "--thinking-budget", "30")
    assert "36 of replies, of which thinking 20" in done.stdout
    manifest = json.loads((tmp_path / "on" / "manifest.json").read_text())
    assert manifest["settings"]["sampling"]["thinking_budget"] == 30
    shown = localemp("runs", "show", tmp_path / "on").stdout
    assert "36 reply tokens, of which thinking 20" in shown
    assert "9 reply tokens, of which thinking 5" in localemp("runs", "show", tmp_path / "on", "--index", "0").stdout
    wrong = localemp("generate", *words, tmp_path / "off", "--thinking", "off", "--thinking-budget", "9")
    assert (wrong.returncode, "--thinking-budget 9: scripted does not think" in wrong.stderr) == (2, True)
