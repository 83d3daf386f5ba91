"""Whole answers and streams as servers send them, odd ones included."""

import json
import random
from itertools import chain, pairwise

import pytest

from localemp.protocol.completions import Usage, read_completion
from localemp.protocol.errors import MalformedResponseError, ResponseError, ServerError
from localemp.protocol.streams import StreamReader


def whole(content="Oh no.", reason="stop", **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return {"choices": [choice], **more}


def chunk(delta, reason=None, **more):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def read(value):
    return read_completion(json.dumps(value))


def thought(completion, reasoning):
    return {"completion_tokens": completion, "completion_tokens_details": {"reasoning_tokens": reasoning}}


TEXT_PART = {"type": "text", "text": "Oh no."}


@pytest.mark.parametrize(
    ("value", "text", "thinking"),
    [
        (whole(), "Oh no.", ""),
        (whole([TEXT_PART]), "Oh no.", ""),
        (whole([TEXT_PART, {"type": "text", "text": " Where?"}]), "Oh no. Where?", ""),
        (whole([{"type": "output_text", "text": {"value": "Oh no."}}]), "Oh no.", ""),
        (whole(["Oh ", "no."]), "Oh no.", ""),
        (whole(TEXT_PART), "Oh no.", ""),
        (whole([{"type": "thinking", "thinking": [{"type": "text", "text": "Sad."}]}, TEXT_PART]), "Oh no.", "Sad."),
        (whole([{"type": "thinking", "thinking": "Sad."}, TEXT_PART]), "Oh no.", "Sad."),
        (whole([{"type": "reasoning", "summary": [{"text": "Sad."}]}, TEXT_PART]), "Oh no.", "Sad."),
        (whole([{"type": "image_url", "image_url": {"url": "x"}}, TEXT_PART]), "Oh no.", ""),
        (whole(None), "", ""),
        ({"choices": [{"message": {"content": "a", "reasoning_content": "b"}}]}, "a", "b"),
        ({"choices": [{"message": {"content": "a", "reasoning": "b", "reasoning_details": [{}]}}]}, "a", "b"),
        ({"choices": [{"message": {"content": "a", "reasoning_content": None, "thinking": "b"}}]}, "a", "b"),
        ({"choices": [{"text": "older", "finish_reason": "stop"}]}, "older", ""),
        ({"choices": [{"message": None, "text": None}]}, "", ""),
        (whole("cut \ud83d"), "cut \ufffd", ""),
        (whole("\ud83d\ude2e"), "\U0001f62e", ""),
    ],
)
def test_texts(value, text, thinking):
    choice = read(value).choices[0]
    assert (choice.text, choice.thinking) == (text, thinking)


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        (None, None),
        ("many", None),
        ({}, Usage()),
        ({"prompt_tokens": 3, "completion_tokens": 0}, Usage(3, 0)),
        ({"prompt_tokens": "3", "completion_tokens": True, "total_tokens": -1}, Usage()),
        ({"prompt_tokens": 3.0, "completion_tokens": 1.5}, Usage(3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, cached_tokens=2)),
        (thought(9, 4), Usage(completion_tokens=9, reasoning_tokens=4)),
        (thought(9, 0), Usage(completion_tokens=9, reasoning_tokens=0)),
        (thought(9, 10), Usage(completion_tokens=9)),  # a server that counts thinking apart
        (thought(None, 4), Usage()),
        (thought(9, -1), Usage(completion_tokens=9)),
        (thought(9, 10**400), Usage(completion_tokens=9)),
        ({"prompt_tokens_details": None, "completion_tokens_details": []}, Usage()),
    ],
)
def test_unknown_counts_are_not_zero(usage, read_as):
    assert read(whole(usage=usage)).usage == read_as


@pytest.mark.parametrize(
    ("value", "status", "message", "is_transient"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, 429, "slow down", True),
        ({"error": {"code": "429", "message": "slow down"}}, 429, "slow down", True),
        ({"object": "error", "message": "long", "code": 40303}, 502, "long", True),
        ({"error": {"code": "rate_limit_exceeded"}, "choices": None}, 429, None, True),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, 503, "busy", True),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, 400, "no", False),
        ({"error": {"status": 401, "message": "who?"}}, 401, "who?", False),
        ({"error": "it broke"}, 502, "it broke", True),
        ({"error": [{"error": {"code": 400, "message": "bad"}}]}, 400, "bad", False),
        ({"choices": [{"error": {"code": 502, "message": "gone"}, "message": {"content": ""}}]}, 502, "gone", True),
        (whole("", "error"), 502, None, True),
    ],
)
def test_an_error_inside_is_no_success(value, status, message, is_transient):
    with pytest.raises(ServerError) as caught:
        read(value)
    assert (caught.value.status, caught.value.is_transient) == (status, is_transient)
    assert message is None or caught.value.message == message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n ",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"<html><h1>Back soon</h1></html>",
        json.dumps(whole()).encode()[:60],
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": ["a"]}',
        b'{"choices": {"0": {}}}',
        b'{"choices": [{"message": {"content": 4}}]}',
        b"[" * 100_000,
        b'{"choices": [{"message": {"content": "a"}}], "n": ' + b"9" * 5_000 + b"}",
        b"\xff\xfe",
    ],
)
def test_what_is_no_completion_may_pass(content):
    with pytest.raises(MalformedResponseError) as caught:
        read_completion(content)
    assert caught.value.is_transient
    assert 0 < len(caught.value.message) < 400


def test_a_byte_order_mark_and_blank_lines_are_passed_over():
    assert read_completion(b"\xef\xbb\xbf\n  \n" + json.dumps(whole()).encode()).choices[0].text == "Oh no."


# Streams.

CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Oh no, "}),
    chunk({"content": "your keys\u2019 gone \U0001f62e"}),
    chunk({}, "stop"),
    {"choices": [], "usage": {"completion_tokens": 7}},
]
SAID = "Oh no, your keys\u2019 gone \U0001f62e"


def framed(end=b"\n", before=b"", prefix=b"data: ", ascii_only=False, bom=False, done=True, final=True, between=b""):
    out = b"\xef\xbb\xbf" if bom else b""
    events = [json.dumps(each, ensure_ascii=ascii_only).encode() for each in CHUNKS] + ([b"[DONE]"] if done else [])
    for event in events:
        out += between + before + prefix + event + end + end
    return out if final else out.rstrip(b"\r\n")


FRAMINGS = {
    f"{name}-{line_end}": framed(end, **options)
    for line_end, end in {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}.items()
    for name, options in {
        "plain": {},
        "no-space": {"prefix": b"data:"},
        "ascii": {"ascii_only": True},
        "bom": {"bom": True},
        "comments": {"between": b": keep-alive" + end + end},
        "comment-in-event": {"before": b": hello" + end},
        "named": {"before": b"event: message" + end},
        "id-and-retry": {"before": b"id: 7" + end + b"retry: 100" + end},
        "no-done": {"done": False},
        "no-last-line": {"final": False},
        "unknown-fields": {"before": b"x: y" + end + b"nocolon" + end},
        "empty-lines": {"between": end + end},
        "two-lines": {"prefix": b"data:" + end + b"data: "},
        "two-lines-no-done": {"prefix": b"data:" + end + b"data: ", "done": False},
    }.items()
}


def said(parts):
    reader = StreamReader()
    text, reason, usage = "", None, None
    for answer in chain(chain.from_iterable(map(reader.feed, parts)), reader.end()):
        usage = answer.usage or usage
        for choice in answer.choices:
            text, reason = text + choice.text, choice.finish_reason or reason
    assert reader.done
    return text, reason, usage and usage.completion_tokens


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_framing_equals_the_plain_one(framing):
    raw = FRAMINGS[framing]
    draw = random.Random(framing)
    assert said([raw]) == (SAID, "stop", 7)
    assert said([raw[at : at + 1] for at in range(len(raw))]) == (SAID, "stop", 7)
    for _ in range(10):
        cuts = sorted({0, len(raw), *(draw.randrange(len(raw)) for _ in range(12))})
        assert said([raw[a:b] for a, b in pairwise(cuts)]) == (SAID, "stop", 7)


def events(*values, done=True):
    lines = [b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) for value in values]
    return b"".join(line + b"\n\n" for line in [*lines, *([b"data: [DONE]"] if done else [])])


def test_a_server_that_does_not_stream_is_read_too():
    raw = json.dumps(whole(usage={"completion_tokens": 2})).encode()
    assert said([b"\n ", raw[:9], raw[9:]]) == ("Oh no.", "stop", 2)


def test_a_character_cut_between_two_chunks_is_joined():
    assert said([events(chunk({"content": "a \ud83d"}), chunk({"content": "\ude2e"}), chunk({}, "stop"))])[0] == (
        "a \U0001f62e"
    )
    assert said([events(chunk({"content": "a \ud83d"}), chunk({}, "length"))])[0] == "a \ufffd"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "an empty stream"),
        (events(), "a stream without a chunk"),
        (b": hello\n\n", "a stream without a chunk"),
        (b"<html>Back soon</html>", "without a chunk: <html>Back soon"),
        (events(chunk({"content": "Oh"}), done=False), "was cut"),
        (events(chunk({"content": "Oh"}), done=False)[:-30], "not valid JSON"),
        (events(b"{"), "not valid JSON"),
        (events(b"null"), "not a completion"),
        (events(b"7"), "not a completion"),
        (events(b'{"choices": [7]}'), "invalid choice"),
        (b'{"choices": []}', "no choices"),
    ],
)
def test_a_stream_that_is_cut_or_none(raw, message):
    with pytest.raises(MalformedResponseError, match=message):
        said([raw])


@pytest.mark.parametrize(
    "bad",
    [
        b'data: {"error": {"message": "gone", "code": 503}}\n\n',
        b'event: error\ndata: {"message": "gone", "code": 503}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {}, "error": {"message": "gone", "code": 503}}]}\n\n',
    ],
)
def test_an_error_in_a_stream(bad):
    reader = StreamReader()
    assert [answer.choices[0].text for answer in reader.feed(events(chunk({"content": "Oh"}), done=False))] == ["Oh"]
    with pytest.raises(ServerError) as caught:
        list(reader.feed(bad))
    assert (caught.value.message, caught.value.status) == ("gone", 503)


def test_the_size_of_an_event_does_not_depend_on_how_it_is_cut():
    raw = events(chunk({"content": "x" * 3 * 2**20}, "stop"))
    assert len(said([raw])[0]) == len(said([raw[at : at + 2**16] for at in range(0, len(raw), 2**16)])[0]) == 3 * 2**20
    with pytest.raises(MalformedResponseError, match="more than 4 MiB"):
        said([events(chunk({"content": "x" * 5 * 2**20}, "stop"))])


def test_two_choices_are_done_when_both_are():
    def part(index, reason):
        return {"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": reason}]}

    reader = StreamReader()
    list(reader.feed(events(part(0, None), part(1, "stop"), done=False)))
    assert not reader.done
    list(reader.feed(events(part(0, "stop"), done=False)))
    assert reader.done


def test_mutants_of_streams_and_answers_are_read_or_refused():
    draw = random.Random(3)
    sources = [framed(), json.dumps(whole([TEXT_PART], usage={"prompt_tokens": 1})).encode()]
    for turn in range(2_000):
        mutant = bytearray(sources[turn % 2])
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(mutant))
            mutant[at : at + draw.randint(0, 8)] = draw.choice(
                [b"", b"\r", b"\n\n", b"null", b"[", b"{}", b"\xf0", b"data:", b'"', b"1e999", b"NaN", b"\\ud83d"]
            )
        try:
            said([bytes(mutant)]) if turn % 2 == 0 else read_completion(bytes(mutant))
        except (ResponseError, AssertionError) as error:
            assert isinstance(error, ResponseError), bytes(mutant)


def test_a_stream_in_single_bytes_takes_linear_time():
    import time

    def seconds(count):
        raw = b"data: " + json.dumps(chunk({"content": "x" * count}, "stop")).encode() + b"\n\n"
        started = time.thread_time()
        said([raw[at : at + 7] for at in range(0, len(raw), 7)])
        return time.thread_time() - started

    # One right after the other: the machine's speed changes with its load.
    assert min(seconds(800_000) / max(seconds(100_000), 1e-3) for _ in range(3)) < 40, "8 is linear, 64 is quadratic"
