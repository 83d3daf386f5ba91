"""Requests that nobody would think of: whatever is sent, the answer is the client's fault or a reply, never ours."""

import itertools
import json
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from model_app import ModelApp
from test_middleware import settings as serve_settings

from localemp.serving.middleware import StrategyMiddleware
from localemp.strategies.cleaning import Cleaner, clean_reply

APP = StrategyMiddleware(ModelApp().app, serve_settings())
NAMES = ("tiny", "tiny:", "tiny:zero-shot", "tiny:few-shot", "tiny:two-stage", "tiny:few-shot+two-stage", "tiny:x", "y")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
text = st.text(max_size=60) | st.sampled_from(["say: Speaker:", "say: \n\nuser :", "\ud83d", "\x00", " ", ""])
part = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]) | anything, "text": text | anything})
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]), "content": text | st.lists(part)}
)
talk = st.lists(message | anything, max_size=5) | anything
options = st.fixed_dictionaries(
    {},
    optional={
        "shots": st.integers(-1, 120) | anything,
        "variant": st.sampled_from(["paper", "released", "../paper"]) | anything,
        "emotion": text | anything,
        "situation": text | anything,
        "trace": st.booleans() | anything,
    },
)
likely = st.fixed_dictionaries(
    {"model": st.sampled_from(NAMES), "messages": st.lists(message, min_size=1, max_size=5)},
    optional={
        "localemp": options | anything,
        "stream": st.booleans() | anything,
        "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}) | anything,
        "stop": st.lists(text, max_size=3) | text | anything,
        "n": st.integers(-1, 9) | anything,
        "temperature": st.floats() | anything,
        "max_tokens": st.integers() | anything,
        "max_completion_tokens": anything,
        "tools": anything,
        "response_format": anything,
        "logprobs": anything,
    },
)
unlikely = st.fixed_dictionaries({"model": st.sampled_from(NAMES) | anything, "messages": talk}) | anything


async def ask(body: bytes) -> httpx.Response:
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})


def check(answer: httpx.Response, asked_a_strategy: bool) -> None:
    assert answer.status_code < 500 or not asked_a_strategy, answer.text
    if answer.status_code == 200 and "event-stream" in answer.headers["content-type"]:
        assert answer.text.endswith("data: [DONE]\n\n")
    elif answer.status_code == 200:
        assert answer.json()["choices"]
    elif asked_a_strategy:
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@settings(max_examples=300, deadline=None)
@given(likely | unlikely)
async def test_no_body_is_an_error_of_ours(content: Any):
    model = content.get("model") if isinstance(content, dict) else None
    check(await ask(json.dumps(content).encode()), isinstance(model, str) and model.startswith("tiny:"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
async def test_no_bytes_are_an_error_of_ours(body: bytes):
    check(await ask(b'{"model": "tiny:two-stage", "messages": [{"role": "user", "content": "' + body), True)


words = st.lists(
    st.sampled_from(["Listener", "speaker", ":", "User :", " ", "\n", "\t", "I am", "so", "\n\n", "assist"])
)


@settings(max_examples=500, deadline=None)
@given(words, st.lists(st.integers(1, 5), min_size=1))
def test_a_reply_that_comes_bit_by_bit_is_cleaned_like_a_whole_one(parts: list[str], sizes: list[int]):
    whole, cleaner, said, start = "".join(parts), Cleaner(), "", 0
    for size in itertools.cycle(sizes):
        if start >= len(whole):
            break
        said += cleaner.feed(whole[start : start + size])
        start += size
    assert said + cleaner.end() == clean_reply(whole)
    assert cleaner.raw == whole
