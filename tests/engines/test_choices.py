"""Probabilities of fixed answers: of a model that is asked token by token, and from what a server tells."""

import json
import math

import pytest
from fake_server import Answer, FakeServer, completion, error

from localemp.dialogue import Message
from localemp.engines.choices import choice_masses, masses_in, normalised
from localemp.engines.openai.engine import OpenAIEngine
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.protocol.completions import TokenProbabilities, read_completion, token_probabilities
from localemp.sampling import Sampling

ASKED = Sampling(max_tokens=8, choices=("A", "B", "C"))
HELLO = [Message("user", "Which?")]

# What follows a beginning, as a made-up model has it; "." stands for everything else.
MODEL = {
    "": {"1": 0.5, "2": 0.2, "t": 0.2, ".": 0.1},
    "1": {"0": 0.3, "1": 0.1, ".": 0.6},
    "10": {"0": 0.2, ".": 0.8},
    "t": {"ie": 0.25, "he": 0.5, ".": 0.25},
}
TOKENS = {"1": 1, "2": 2, "0": 10, "t": 20, "ie": 21}
TEXTS = {number: text for text, number in TOKENS.items()}


def tokens(*texts):
    return tuple(TOKENS[text] for text in texts)


async def of_model(spellings):
    """Probabilities of choices, and the beginnings that the model was asked about."""
    asked = []

    async def next_token(beginning, wanted):
        asked.append("".join(TEXTS[token] for token in beginning))
        return {token: MODEL[asked[-1]].get(TEXTS[token], 0.0) for token in wanted}

    return await choice_masses(spellings, next_token), asked


@pytest.mark.parametrize(
    ("spellings", "masses", "asked"),
    [
        pytest.param({"1": [("1",)], "2": [("2",)]}, {"1": 0.5, "2": 0.2}, [""], id="one token each"),
        pytest.param({"1": [("1",)], "tie": [("t", "ie")]}, {"1": 0.5, "tie": 0.05}, ["", "t"], id="two tokens"),
        pytest.param({"1": [("1",)], "10": [("1", "0")]}, {"1": 0.35, "10": 0.15}, ["", "1"], id="one begins another"),
        pytest.param(
            {"1": [("1",)], "10": [("1", "0")], "100": [("1", "0", "0")]},
            {"1": 0.35, "10": 0.12, "100": 0.03},
            ["", "1", "10"],
            id="three in a row",
        ),
        pytest.param({"x": [("1", "0"), ("2",)]}, {"x": 0.35}, ["", "1"], id="two spellings"),
    ],
)
async def test_a_choice_has_the_probability_of_all_of_its_tokens(spellings, masses, asked):
    found = await of_model({choice: [tokens(*each) for each in listed] for choice, listed in spellings.items()})
    assert found == (pytest.approx(masses), asked)


def test_probabilities_are_among_the_choices():
    assert normalised({"A": 0.3, "B": 0.1}) == (pytest.approx({"A": 0.75, "B": 0.25}), pytest.approx(0.4))
    assert normalised({"A": 0.0, "B": 0.0}) == (None, 0)


def reply(*positions):
    """Positions of a reply: the sampled token is the first of each."""
    return [TokenProbabilities(next(iter(each)), each) for each in positions]


@pytest.mark.parametrize(
    ("choices", "positions", "masses"),
    [
        pytest.param("A B C", [{"A": 0.7, "B": 0.2, "The": 0.1}], {"A": 0.7, "B": 0.2, "C": 0}, id="letters"),
        pytest.param("A B", [{"A": 0.5, " A": 0.1, "a": 0.05, " b ": 0.2}], {"A": 0.65, "B": 0.2}, id="spellings"),
        pytest.param("A a", [{"A": 0.5, "a": 0.3}], {"A": 0.5, "a": 0.3}, id="case tells them apart"),
        pytest.param("A B", [{"\n": 0.9, "A": 0.1}, {"B": 0.5, "A": 0.5}], {"A": 0.55, "B": 0.45}, id="a line first"),
        pytest.param("1 10", [{"1": 0.6, "10": 0.3}], {"1": 0.6, "10": 0.3}, id="ten is a token"),
        pytest.param("1 10", [{"1": 0.6, "2": 0.4}, {"0": 0.25, ".": 0.75}], {"1": 0.45, "10": 0.15}, id="ten is two"),
        pytest.param("1 10", [{"1": 0.6, "2": 0.4}], {"1": 0.6, "10": 0}, id="it ends there"),
        pytest.param("1 2 10", [{"2": 0.5, "1": 0.5}], None, id="what begins two was not taken"),
        pytest.param("A tie", [{"t": 0.5, "A": 0.5}, {"ie": 0.5, "he": 0.5}], {"A": 0.5, "tie": 0.25}, id="of two"),
        pytest.param("A tie", [{"A": 0.5, "t": 0.5}], None, id="one of two was not taken"),
        pytest.param("A tie", [{"A": 0.9, "t": 0.001}], {"A": 0.9, "tie": 0}, id="too little to matter"),
        pytest.param("A B", [{"I": 0.9, "The": 0.1}], None, id="no choice"),
        pytest.param("A B", [], None, id="nothing"),
    ],
)
def test_choices_are_read_from_the_likeliest_tokens(choices, positions, masses):
    found = masses_in(reply(*positions), choices.split())
    assert found == (masses if masses is None else pytest.approx(masses))


def content(*positions):
    """A server's log probabilities of a reply."""
    return {
        "content": [
            {
                "token": next(iter(each)),
                "logprob": math.log(next(iter(each.values()))),
                "top_logprobs": [{"token": token, "logprob": math.log(share)} for token, share in each.items()],
            }
            for each in positions
        ]
    }


def told(logprobs):
    return token_probabilities(read_completion(json.dumps(completion(logprobs=logprobs))).choices[0])


def test_log_probabilities_are_read():
    (first, second) = told(content({"A": 0.5, "B": 0.25}, {".": 1.0}))
    assert (first.sampled, first.likeliest) == ("A", pytest.approx({"A": 0.5, "B": 0.25}))
    assert second.likeliest == {".": 1.0}


def place(**changes):
    return {"token": "A", "logprob": -0.5, "top_logprobs": [{"token": "A", "logprob": -0.5}], **changes}


@pytest.mark.parametrize(
    "logprobs",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param({"content": "A"}, id="a text"),
        pytest.param({"content": [None]}, id="no position"),
        pytest.param({"content": [place(token=1)]}, id="no token"),
        pytest.param({"content": [place(top_logprobs=None)]}, id="no list"),
        pytest.param({"content": [place(top_logprobs=[{"token": "A", "logprob": "0"}])]}, id="a text for a number"),
        pytest.param({"content": [place(top_logprobs=[{"token": "A", "logprob": True}])]}, id="true"),
        pytest.param({"content": [place(top_logprobs=[{"token": "A", "logprob": 0.5}])]}, id="above 0"),
        pytest.param({"content": [place(top_logprobs=[{"token": "A", "logprob": 10**400}])]}, id="beyond a float"),
        pytest.param({"content": [place(top_logprobs=[{"logprob": -1}])]}, id="a token is missing"),
        pytest.param({"content": [place(top_logprobs=[])] * 0}, id="empty"),
        pytest.param({"content": [place(top_logprobs=[], logprob=None)]}, id="the sampled one is unknown"),
        pytest.param(
            {"content": [place(top_logprobs=[{"token": token, "logprob": -0.1} for token in "AB"])]}, id="more than 1"
        ),
    ],
)
def test_wrong_log_probabilities_are_unknown(logprobs):
    assert told(logprobs) == ()


def test_hardly_possible_tokens_and_long_lists_do_no_harm():
    first, *others = told({"content": [place(top_logprobs=[{"token": "A", "logprob": -(10**400)}])] * 5000})
    assert first.likeliest == {"A": 0.0}
    assert len(others) < 100
    (only,) = told(content({f"token {number}": 1e-6 for number in range(5000)}))
    assert len(only.likeliest) < 1000


def serve(logprobs):
    return Answer(body=completion(message={"content": "B"}, logprobs=logprobs))


async def test_a_server_is_asked_for_the_likeliest_tokens():
    with FakeServer([serve(content({"B": 0.6, " A": 0.15, "C": 0.05, "I": 0.2}))]) as server:
        async with OpenAIEngine("tiny", server.url) as engine:
            got = await engine.chat(HELLO, ASKED)
    body = server.requests[0].body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert (got.text, got.choices) == ("B", pytest.approx({"A": 0.1875, "B": 0.75, "C": 0.0625}))
    assert got.choice_mass == pytest.approx(0.8)
    assert got.record().keys() >= {"choices", "choice_mass"}


async def test_without_choices_nothing_is_asked_or_recorded():
    with FakeServer() as server:
        async with OpenAIEngine("tiny", server.url) as engine:
            got = await engine.chat(HELLO, Sampling())
    assert not {"logprobs", "top_logprobs"} & server.requests[0].body.keys()
    assert not {"choices", "choice_mass"} & got.record().keys()
    assert "choices" not in Sampling().describe()
    assert ASKED.describe()["choices"] == ("A", "B", "C")


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(error(403, "You are not allowed to request logprobs from this model"), id="forbidden"),
        pytest.param(
            error(400, "Unsupported parameter", code="unsupported_parameter", param="logprobs"), id="by its code"
        ),
        pytest.param(error(400, "does not support the parameter `top_logprobs`"), id="by its name"),
        pytest.param(
            error(400, "Requested sample logprobs of 20, which is greater than max allowed: 5"), id="too many"
        ),
    ],
)
async def test_a_server_that_refuses_them_is_asked_without(refusal):
    with FakeServer([refusal, serve(None), serve(None)]) as server:
        async with OpenAIEngine("tiny", server.url) as engine:
            got = [await engine.chat(HELLO, ASKED) for _ in range(2)]
    assert [(each.text, each.choices, each.choice_mass) for each in got] == [("B", None, None)] * 2
    assert "logprobs dropped: the model refuses it" in got[1].notes
    assert [("logprobs" in each.body, "top_logprobs" in each.body) for each in server.requests] == [
        (True, True), (False, False), (False, False),
    ]  # fmt: skip


async def test_a_script_gives_probabilities_of_choices():
    engine = ScriptedEngine([Entry(match="Which", choices={"A": 0.1, "B": 0.4}), Entry(reply="Tell me more.")])
    got = await engine.chat(HELLO, ASKED)
    assert (got.text, got.choices, got.choice_mass) == ("B", pytest.approx({"A": 0.2, "B": 0.8, "C": 0}), 0.5)
    assert (await engine.chat(HELLO, Sampling())).choices is None
    assert (await engine.chat([Message("user", "Hm.")], ASKED)).choices is None
    assert engine.gives_choices
    assert not ScriptedEngine([Entry(reply="A")]).gives_choices
    with pytest.raises(ValueError, match="more than 1"):
        Entry(choices={"A": 0.7, "B": 0.7})
