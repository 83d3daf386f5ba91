"""What OpenAI's own service is known to refuse is not sent to it; other servers are asked first."""

import pytest

from localemp.dialogue import Message
from localemp.engines.openai.requests import Requests
from localemp.engines.openai.servers import OPENAI, OTHER
from localemp.sampling import Sampling

MESSAGES = [Message("user", "Hi")]
THINKS = Sampling(max_tokens=100, thinking_budget=2048)


@pytest.mark.parametrize(
    ("server", "limit", "budget"),
    [(OPENAI, "max_completion_tokens", {}), (OTHER, "max_tokens", {"thinking_token_budget": 2048})],
    ids=["openai", "another server"],
)
def test_reasoning_and_reply_share_one_limit_under_the_name_that_the_server_knows(server, limit, budget):
    body, notes = Requests("m", "chat", {}, server).body(MESSAGES, THINKS)
    rest = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.0, "top_p": 1.0}
    assert body == {**rest, limit: 2148, **budget}
    assert notes == (), "nothing about the replies is other than asked for"


@pytest.mark.parametrize(("effort", "reasons"), [("low", True), ("none", False)])
def test_temperature_is_not_sent_while_a_model_reasons_and_that_is_noted(effort, reasons):
    body, notes = Requests("m", "chat", {"reasoning_effort": effort}, OPENAI).body(MESSAGES, THINKS)
    assert ("temperature" in body, "top_p" in body) == (not reasons,) * 2
    assert len(notes) == 2 * reasons
    assert all("dropped" in note for note in notes)


def test_another_server_may_take_a_temperature_while_a_model_reasons():
    body, _ = Requests("m", "chat", {"reasoning_effort": "low"}).body(MESSAGES, THINKS)
    assert "temperature" in body


def test_a_name_that_openai_refuses_after_all_is_still_replaced():
    requests = Requests("m", "chat", {}, OPENAI)
    body, _ = requests.body(MESSAGES, THINKS)
    assert requests.change("temperature", body)
    assert "temperature" not in requests.body(MESSAGES, THINKS)[0]


def test_completions_keep_their_names():
    body, _ = Requests("m", "completions", {}, OPENAI).body(MESSAGES, Sampling(max_tokens=100))
    assert body["max_tokens"] == 100
