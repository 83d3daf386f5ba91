"""What of a body reaches an upstream that is asked with our key."""

import pytest

from localemp.serving.errors import RequestError
from localemp.serving.proxy.request_fields import allowed_fields

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
FILE = {"type": "input_file", "file_id": "file-1"}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (RESPONSES, {"input": [{"role": "user", "content": [FILE]}]}),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": [FILE]}]}),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "msg-1"}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio-1"}}]}),
        (CHAT, {"messages": {"role": "user", "content": {"file": {"file_id": "file-1"}}}}),
        (RESPONSES, {"input": [{"type": "code_interpreter_call", "container_id": "cntr-1"}]}),
        (RESPONSES, {"input": "Hi.", "instructions": [{"type": "item_reference", "id": "msg-1"}]}),
        (RESPONSES, {"input": "Hi.", "tools": {"type": "web_search"}}),
        (RESPONSES, {"input": "Hi.", "tools": [[{"type": "web_search"}]]}),
        (RESPONSES, {"input": "Hi.", "tool_choice": {"type": "web_search"}}),
        (
            MESSAGES,
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "content": [{"source": {"file_id": "f"}}]}]}
                ]
            },
        ),
    ],
)
def test_what_is_kept_at_the_server_is_not_named_however_deep(path, content):
    with pytest.raises(RequestError) as caught:
        allowed_fields(path, {"model": "x", **content})
    assert caught.value.content["error"]["param"] in content


@pytest.mark.parametrize("value", [0, 0.0, True, "a", [0], {"a": None}])
def test_an_unknown_field_that_says_something_is_refused(value):
    with pytest.raises(RequestError):
        allowed_fields(CHAT, {"model": "x", "models": value})


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_an_unknown_field_that_says_nothing_is_left_out(value):
    assert allowed_fields(CHAT, {"model": "x", "models": value}) == {"model": "x"}


def test_what_a_tool_says_may_look_like_anything():
    talk = [{"role": "tool", "tool_call_id": "c", "content": '{"file_id": "f"}'}, {"role": "user", "content": "Hi."}]
    assert allowed_fields(CHAT, {"model": "x", "messages": talk}) == {"model": "x", "messages": talk}


@pytest.mark.parametrize("choice", ["auto", {"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "f"}])
def test_how_a_tool_is_chosen_is_passed_on(choice):
    body = {"model": "x", "messages": [], "tools": [{"name": "f", "input_schema": {}}], "tool_choice": choice}
    assert allowed_fields(MESSAGES, body) == body
