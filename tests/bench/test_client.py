"""The client of `bench serve`, before a real server."""

import json

import numpy as np
import pytest
from chat_server import ChatServer
from patience import patience

from localemp.bench.load.client import Answer, Client, api_url, chat_messages, chat_url, percentile
from localemp.protocol.streams import StreamReader

BODY = {"model": "tiny", "messages": chat_messages(["I failed."]), "stream": True}


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


async def ask(url, key=None, body=BODY, limit=60) -> Answer:
    async with Client(url, key, limit) as client:
        return await client.chat(body)


async def test_tokens_are_the_servers_count_and_times_those_of_chunks_with_text(server):
    server.wait, server.gap = patience(1), patience(0.5)
    answer = await ask(server.url)
    assert answer.good
    assert answer.text == "That sounds hard."
    assert answer.tokens == 7
    assert len(answer.texts) == 3, "neither the role nor the end is text"
    assert len(answer.chunks) == 5
    assert answer.chunks[0] - answer.started < 0.9 * server.wait < answer.first - answer.started, (
        "the first chunk is empty"
    )
    assert answer.started < answer.first < answer.texts[-1] < answer.ended
    assert answer.texts[2] - answer.texts[1] == pytest.approx(server.gap, rel=0.5)


async def test_a_server_that_counts_nothing_has_no_tokens(server):
    server.tokens = None
    answer = await ask(server.url)
    assert answer.good
    assert answer.tokens is None


async def test_thinking_is_text_that_no_reply_has():
    answer, reader = Answer(0.0), StreamReader()
    for delta in ({"reasoning": "Sad."}, {"content": "Oh."}):
        for chunk in reader.feed(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()):
            answer.take(chunk)
    assert answer.text == "Oh."
    assert len(answer.texts) == 2


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        ({"key": "secret"}, 401, "no such key"),
        ({"model": "other"}, 404, "no model tiny"),
        ({"ending": "cut"}, 200, "was cut"),
        ({"encoding": "br"}, 200, "compressed as 'br'"),
        ({"ending": "break"}, 0, "Error"),
        ({"ending": "error"}, 200, "the engine died"),
        ({"stalls_after": 0}, 0, "Timeout"),
    ],
)
async def test_what_goes_wrong_is_no_reply(server, told, status, error):
    for name, value in told.items():
        setattr(server, name, value)
    answer = await ask(server.url, limit=0.5)
    assert (answer.status, answer.good) == (status, False)
    assert error in answer.error
    assert answer.ended > answer.started


@pytest.mark.parametrize(
    "told", [{"ending": "no done"}, {"encoding": "gzip"}, {"encoding": "gzip", "ending": "no done"}, {"streams": False}]
)
async def test_a_whole_reply_however_it_comes(server, told):
    for name, value in told.items():
        setattr(server, name, value)
    answer = await ask(server.url)
    assert answer.good, answer.error
    assert (answer.text, answer.tokens) == ("That sounds hard.", 7)


async def test_no_server_is_an_answer_too():
    answer = await ask("http://127.0.0.1:9")
    assert (answer.status, answer.good) == (0, False)
    assert "Connect" in answer.error


def test_a_url_without_a_path_means_v1():
    assert api_url("http://host:8000/") == "http://host:8000/v1"
    assert chat_url("https://host/api/v3/") == "https://host/api/v3/chat/completions"


def test_percentiles_are_those_of_numpy():
    values = [4.0, 1.0, 3.0, 2.0]
    assert percentile(values, 0.5) == 2.5
    assert percentile(values, 0.99) == np.percentile(values, 99)
    assert percentile([], 0.5) == 0.0
