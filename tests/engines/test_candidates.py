"""Several answers to one prompt: one request where the server takes that, and every view of an engine."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fake_server import Answer, FakeServer, Request, completion, error

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.openai.engine import OpenAIEngine
from localemp.engines.planner import Planner
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.errors import EngineError, PromptTooLongError, RefusalError
from localemp.models.adapters import Adapter
from localemp.models.price import Price
from localemp.pipeline.context_bound import BoundedEngine, ContextTooShortError
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.sampling import Sampling

MESSAGES = [Message("user", "I lost my job.")]
WARM = Sampling(max_tokens=64, temperature=0.8, seed=7)
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16},
}


def answers(*texts: str | None, reason: str = "stop", usage: Any = USAGE, **message: Any) -> Answer:
    """A completion with a choice for each text."""
    body = completion(usage=usage)
    choices = [
        {"index": at, "finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
        for at, text in enumerate(texts)
    ]
    return Answer(body=body | {"choices": choices})


def one_each(request: Request) -> Answer:
    """A server that gives one answer a request, and says which seed it had."""
    return answers(f"seed {request.body.get('seed')}")


def openai_engine(server: FakeServer, **options: Any) -> OpenAIEngine:
    async def no_wait(_: float) -> None:
        return

    return OpenAIEngine("tiny", server.url, sleep=no_wait, **options)


async def test_candidates_are_one_request_whose_prompt_is_counted_once() -> None:
    with FakeServer([answers("A.", "B.", "C.")]) as server:
        async with openai_engine(server, price=Price(prompt=1.0, completion=2.0, as_of=date(2026, 1, 1))) as engine:
            got = await engine.candidates(MESSAGES, WARM, 3)
    assert (len(server.requests), server.requests[0].body["n"]) == (1, 3)
    assert [each.text for each in got] == ["A.", "B.", "C."]
    counts = [(each.prompt_tokens, each.completion_tokens, each.cached_tokens) for each in got]
    assert counts == [(20, 9, 16), (0, 0, 0), (0, 0, 0)]
    assert sum(each.cost or 0 for each in got) == pytest.approx((20 * 1.0 + 9 * 2.0) / 1e6)
    assert [each.notes for each in got] == [()] * 3


async def test_what_a_server_does_not_count_is_unknown_for_all() -> None:
    with FakeServer([answers("A.", "B.", usage=None)]) as server:
        async with openai_engine(server) as engine:
            got = await engine.candidates(MESSAGES, WARM, 2)
    assert [(each.prompt_tokens, each.completion_tokens, each.cost) for each in got] == [(None, None, None)] * 2


async def test_each_candidate_has_its_own_thinking() -> None:
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 4}}
    with FakeServer([answers("<think>Hm.</think>A.", "B.", usage=usage)]) as server:
        async with openai_engine(server) as engine:
            got = await engine.candidates(MESSAGES, WARM, 2)
    assert [(each.text, each.thinking, each.thinking_tokens) for each in got] == [("A.", "Hm.", 4), ("B.", "", 0)]


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "Unsupported value: 'n' does not support 4 with this model.", param="n", code="unsupported_value"),
        error(400, "n must equal 1 (multi-choice is not supported)"),
        error(422, "extra_forbidden: body.n"),
        error(500, "Only one completion choice is allowed"),
    ],
    ids=["code", "words", "form", "status-500"],
)
async def test_a_server_that_refuses_several_is_asked_one_by_one(refusal: Answer) -> None:
    with FakeServer([refusal], rule=one_each) as server:
        async with openai_engine(server) as engine:
            got = await engine.candidates(MESSAGES, WARM, 3)
            again = await engine.candidates(MESSAGES, WARM, 3)
            described = engine.describe()
    assert [each.text for each in got] == [each.text for each in again] == ["seed 7", "seed 8", "seed 9"]
    assert got[0].notes == ("n dropped: the model refuses it",)
    assert described["changed_parameters"] == {"n": None}
    assert ["n" in request.body for request in server.requests] == [True] + [False] * 6
    assert sum(each.prompt_tokens or 0 for each in got) == 60, "each read the prompt"


async def test_a_server_that_gives_fewer_is_asked_for_the_rest() -> None:
    with FakeServer(rule=one_each) as server:
        async with openai_engine(server) as engine:
            got = await engine.candidates(MESSAGES, WARM, 3)
            await engine.candidates(MESSAGES, WARM, 2)
    assert [each.text for each in got] == ["seed 7", "seed 8", "seed 9"]
    assert ["n" in request.body for request in server.requests] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error(400, "This model's maximum context length is 100 tokens", code="context_length_exceeded"),
         PromptTooLongError),
        (error(400, "the filter", code="content_filter"), RefusalError),
    ],
    ids=["too-long", "filtered"],
)  # fmt: skip
async def test_another_error_is_not_taken_for_a_refusal(failure: Answer, kind: type[Exception]) -> None:
    with FakeServer([Answer(), failure]) as server:
        async with openai_engine(server) as engine:
            await engine.chat(MESSAGES, WARM)
            with pytest.raises(kind):
                await engine.candidates(MESSAGES, WARM, 3)
            assert len(server.requests) == 2
            assert engine.describe()["changed_parameters"] == {}


async def test_empty_and_withheld_answers_do_not_spoil_the_others() -> None:
    body = answers(None, "B.").body
    withheld = {"index": 2, "finish_reason": "content_filter", "message": {"content": "C."}}
    with FakeServer([Answer(body=body | {"choices": [*body["choices"], withheld]})], rule=one_each) as server:
        async with openai_engine(server) as engine:
            got = await engine.candidates(MESSAGES, WARM, 3)
    assert [each.text for each in got] == ["", "B.", "seed 9"]
    with FakeServer([answers(None, None)]) as server:
        async with openai_engine(server) as engine:
            with pytest.raises(EngineError, match="an answer without text"):
                await engine.candidates(MESSAGES, WARM, 2)


async def test_a_server_that_withholds_all_but_one_has_not_ignored_n() -> None:
    body = answers("A.", "B.").body
    body["choices"][1]["finish_reason"] = "content_filter"
    with FakeServer([Answer(body=body), answers("B again."), answers("C.", "D.")]) as server:
        async with openai_engine(server) as engine:
            first = await engine.candidates(MESSAGES, WARM, 2)
            again = await engine.candidates(MESSAGES, WARM, 2)
    assert [[each.text for each in got] for got in (first, again)] == [["A.", "B again."], ["C.", "D."]]
    assert [request.body.get("n") for request in server.requests] == [2, None, 2]


async def test_a_truncated_candidate_means_that_the_prompt_was_too_long() -> None:
    with FakeServer([answers("A.", "B.", reason="length")]) as server:
        async with openai_engine(server, context_length=70) as engine:
            with pytest.raises(PromptTooLongError):
                await engine.candidates(MESSAGES, WARM, 2)


class Seeds(Engine):
    """Answers with the seed."""

    name = "seeds"

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return Completion(str(sampling.seed), "stop")

    def describe(self) -> dict[str, Any]:
        return {}


async def test_an_engine_without_several_answers_gives_each_its_seed() -> None:
    assert [each.text for each in await Seeds().candidates(MESSAGES, WARM, 3)] == ["7", "8", "9"]
    assert [each.text for each in await Seeds().candidates(MESSAGES, Sampling(temperature=1.0), 2)] == ["None", "None"]


async def test_a_shared_engine_is_asked_for_several_at_once() -> None:
    with FakeServer([answers("A.", "B."), answers("C.", "D.")]) as server:
        async with openai_engine(server) as engine:
            shared = SharedAnswers(engine)
            got = [await shared.asking(name).candidates(MESSAGES, WARM, 2) for name in ("one", "two")]
    assert [[each.text for each in some] for some in got] == [["A.", "B."], ["C.", "D."]]
    assert [request.body["n"] for request in server.requests] == [2, 2], "nothing is shared above temperature 0"


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "shared"])
async def test_candidates_of_an_adapted_engine_have_its_adapter(shares: bool) -> None:
    mine = Adapter("mine", "mine", Path("mine"), 8, ("q_proj",), "base", "0" * 64)
    entries = [Entry(reply=["1", "2"], adapter="mine"), Entry(reply="bare")]
    engine = ScriptedEngine(entries, adapters=[mine])
    view = SharedAnswers(engine).asking("row", mine) if shares else engine.adapted(mine)
    assert [each.text for each in await view.candidates(MESSAGES, WARM, 2)] == ["1", "2"]
    assert [each.text for each in await engine.candidates(MESSAGES, WARM, 2)] == ["bare", "bare"]


async def test_a_bound_that_was_too_low_is_told_for_candidates_too() -> None:
    narrow = Planner(lambda messages: range(50), 60)
    with pytest.raises(ContextTooShortError):
        await BoundedEngine(narrow, 200).candidates(MESSAGES, WARM, 2)
    with pytest.raises(PromptTooLongError):
        await BoundedEngine(narrow, 100).candidates(MESSAGES, WARM, 2)
