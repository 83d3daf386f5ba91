"""`localemp serve` with the real vLLM, the real middleware and the embedded model, from the start to Ctrl-C.

One server answers all tests here: it takes a while to start. The last test stops it.
"""

import asyncio
import json
import re
import signal
import time
from contextlib import asynccontextmanager, suppress

import httpx
import openai
import psutil
import pytest
from command import Localemp
from patience import patience
from ports import free_port

from localemp.strategies.cleaning import clean_reply

pytestmark = pytest.mark.engine

KEY = "sk-test"
TALK = [{"role": "user", "content": "I lost my job today."}]
FLOW = """
about = "a label and JSON at once, then the best of three"
[[stages]]
name = "feeling"
ask = "Which of these does the speaker feel? {labels}"
labels = ["angry", "sad", "afraid"]
sampling = { max_tokens = 16 }
[[stages]]
name = "needs"
ask = 'What does the speaker need? Answer with JSON: {{"need": "..."}}'
sampling = { max_tokens = 64 }
[stages.schema]
type = "object"
properties = { need = { type = "string", maxLength = 40 } }
required = ["need"]
[[stages]]
name = "reply"
ask = "The speaker is {feeling} and needs {needs.need}. Reply in one sentence."
n = 3
sampling = { temperature = 1.0, max_tokens = 24 }
choose = { ask = "Which reply is the best? Answer with its number.\\n{candidates}" }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process, the URL of its API, and what it said when it was ready."""
    port, folder = free_port(), tmp_path_factory.mktemp("serve")
    (folder / "mine.toml").write_text(FLOW, "utf-8")
    process = Localemp(folder).start(
        "serve", "--port", port, "--strategies", "zero-shot,two-stage", "--flow", "mine.toml", "--api-key", KEY,
        "--", "--max-model-len", 1024, "--kv-cache-memory-bytes", 2**30,
    )  # fmt: skip
    try:
        shown = ""
        while "Ctrl-C stops." not in shown:
            line = process.stdout.readline()
            assert line, process.communicate()
            shown += line
        yield process, f"http://127.0.0.1:{port}/v1", shown
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server[1], api_key=KEY, max_retries=0) as client:
        yield client


def test_models_are_listed_as_vllm_lists_them(server, client):
    assert "  smollm2:STRATEGY, with one of: zero-shot, two-stage, mine\n" in server[2]
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["smollm2", "smollm2:zero-shot", "smollm2:two-stage", "smollm2:mine"]
    assert models["smollm2"].model_dump()["max_model_len"] == 1024
    assert models["smollm2:two-stage"].model_dump()["parent"] == "smollm2"


@pytest.mark.parametrize("model", ["smollm2", "smollm2:zero-shot", "smollm2:two-stage"])
def test_each_model_answers(client, model):
    long = {"ignore_eos": True}
    answer = client.chat.completions.create(model=model, messages=TALK, max_tokens=8, temperature=0, extra_body=long)
    assert (answer.model, answer.choices[0].finish_reason) == (model, "length")
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8 if "two-stage" not in model else answer.usage.completion_tokens > 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_respond_finds_the_server_and_starts_nothing(localemp, server):
    words = ("respond", "I lost my job today.", "-s", "two-stage", "--json")
    done = localemp(*words, env={"LOCALEMP_API_KEY": KEY})
    found = json.loads(done.stdout)
    assert found["server"] == server[1].removesuffix("/v1"), done.stderr
    assert found["reply"] == clean_reply(found["stages"][-1]["text"]) != ""
    assert found["tokens"]["prompt"] > 100 and found["tokens"]["completion"] > 2


@pytest.mark.parametrize("temperature", [None, 0], ids=["sampled", "greedy"])
def test_vllm_holds_the_answers_of_a_flow(client, temperature):
    given = {} if temperature is None else {"temperature": temperature}
    *pieces, last = client.chat.completions.create(
        model="smollm2:mine", messages=TALK, stream=True, extra_body={"localemp": {"trace": True}}, **given
    )
    feeling, needs, *rest = last.model_dump()["localemp"]["stages"]
    assert feeling["text"] == feeling["answer"] in ("angry", "sad", "afraid")
    assert json.loads(needs["text"]) == needs["answer"] and list(needs["answer"]) == ["need"]
    judged = [stage for stage in rest if stage["name"] == "reply.choice"]
    assert all(stage["text"] == stage["answer"] in ("1", "2", "3") for stage in judged)
    assert [stage["name"] for stage in rest if stage not in judged] == ["reply.candidate"] * 2 + ["reply"]
    assert (len({stage["text"] for stage in rest if stage not in judged}) == 1) == (not judged), "equal ones need none"
    (choice,) = pieces[0].choices
    assert choice.delta.content and choice.delta.content in rest[-1]["text"]
    assert choice.finish_reason == rest[-1]["finish_reason"]


async def test_a_stream_is_the_reply_as_it_is_made(server):
    asked = {"model": "smollm2:two-stage", "messages": TALK, "max_tokens": 12, "temperature": 0, "stream": True}
    own = {"ignore_eos": True, "localemp": {"trace": True}}
    async with openai.AsyncOpenAI(base_url=server[1], api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(**asked, stream_options={"include_usage": True}, extra_body=own)
        chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    *_, usage, trace = chunks
    stages = trace.model_dump()["localemp"]["stages"]
    assert "".join(said) == clean_reply(stages[-1]["text"])
    assert len([text for text in said if text]) > 1, "in pieces"
    assert stages[-1]["completion_tokens"] == 12
    for name in ("prompt_tokens", "completion_tokens"):
        assert getattr(usage.usage, name) == sum(stage[name] for stage in stages)


def test_errors_are_the_clients_own_classes(client):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-other").models.list()
    with pytest.raises(openai.NotFoundError, match="unknown strategy 'similar'; known: zero-shot"):
        client.chat.completions.create(model="smollm2:similar", messages=TALK)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-7", messages=TALK)
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model="smollm2:zero-shot", messages=[{"role": "user", "content": "so " * 2000}])


@pytest.mark.parametrize("stage", ["feeling", "reply"])
async def test_a_client_that_goes_away_frees_its_slot_within_a_second(server, stage):
    """By the engine's own count. Another request runs on meanwhile: the engine counts when it takes a step."""
    asked = {"messages": TALK, "max_tokens": 800, "ignore_eos": True, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=server[1], headers=headers, timeout=patience(60)) as client:
        async with _reading(client, asked | {"model": "smollm2"}):
            await _wait_for(client, 1, seconds=10)
            async with _reading(client, asked | {"model": "smollm2:two-stage"}) as heard:
                await _wait_for(client, 2, seconds=10)
                if stage == "reply":
                    await asyncio.wait_for(heard.wait(), patience(60))
                else:
                    assert not heard.is_set()
                await _wait_for(client, 2, seconds=1)
            await _wait_for(client, 1, seconds=1)
        await _wait_for(client, 0, seconds=5)


@asynccontextmanager
async def _reading(client, body):
    """A client that reads a stream, and hangs up at the end of the block. Gives what is set by the first chunk."""
    heard = asyncio.Event()

    async def read():
        async with client.stream("POST", "/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                heard.set()

    reader = asyncio.create_task(read())
    try:
        yield heard
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


async def _wait_for(client, running, seconds):
    began, most = time.monotonic(), patience(seconds)
    while (found := await _running(client)) != running:
        assert time.monotonic() - began < most, f"{found} requests run, not {running}"
        await asyncio.sleep(0.05)


async def _running(client):
    text = (await client.get("../metrics")).raise_for_status().text
    return sum(float(value) for value in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE))


def test_ctrl_c_ends_it_and_all_that_it_started(server):
    process, *_ = server
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == 130, said
    assert time.monotonic() - began < patience(30)
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(started, timeout=patience(10))
    assert not alive
