"""Identical requests are asked once: who waits, who fails, who goes away."""

import asyncio

import pytest

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.errors import EngineError, FatalEngineError
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.sampling import Sampling

ASKED, GREEDY = [Message("user", "Hi.")], Sampling()


class Gated(Engine):
    """Answers when its gate opens; fails as told."""

    name = "gated"

    def __init__(self, *failures):
        self.gate, self.failures, self.calls, self.cancelled = asyncio.Event(), list(failures), 0, 0

    async def chat(self, messages, sampling):
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failures:
            raise self.failures.pop(0)
        return Completion(f"Reply {self.calls}.", "stop")

    def describe(self):
        return {"engine": self.name}


async def begun(*askers):
    """Start tasks in order, and let each get as far as it can."""
    tasks = []
    for asker, sampling in askers:
        tasks.append(asyncio.create_task(asker.chat(ASKED, sampling)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return tasks


async def test_the_second_asker_gets_the_same_answer_and_whose_it_is():
    engine = Gated()
    shared = SharedAnswers(engine)
    first, second = await begun((shared.asking("a"), GREEDY), (shared.asking("b"), GREEDY))
    engine.gate.set()
    assert [(one.text, one.asked_by) for one in (await first, await second)] == [("Reply 1.", ""), ("Reply 1.", "a")]
    assert (await shared.asking("c").chat(ASKED, GREEDY)).asked_by == "a"
    assert engine.calls == 1
    assert shared.asking("a").describe() == {"engine": "gated"}


@pytest.mark.parametrize(
    "other", [Sampling(max_tokens=5), Sampling(stop=("x",)), Sampling(schema="{}"), Sampling(temperature=0.5)]
)
async def test_other_sampling_is_another_request(other):
    engine = Gated()
    shared = SharedAnswers(engine)
    await begun((shared.asking("a"), GREEDY), (shared.asking("b"), other))
    assert engine.calls == 2


async def test_an_asker_that_goes_away_takes_the_answer_from_nobody():
    engine = Gated()
    shared = SharedAnswers(engine)
    first, second = await begun((shared.asking("a"), GREEDY), (shared.asking("b"), GREEDY))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    engine.gate.set()
    assert (await second).text == "Reply 1."
    assert (engine.calls, engine.cancelled) == (1, 0)


async def test_the_last_asker_that_goes_away_ends_the_call_and_others_may_ask_again():
    engine = Gated()
    shared = SharedAnswers(engine)
    tasks = await begun((shared.asking("a"), GREEDY), (shared.asking("b"), GREEDY))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert (engine.calls, engine.cancelled) == (1, 1)
    engine.gate.set()
    answer = await shared.asking("c").chat(ASKED, GREEDY)
    assert (answer.text, answer.asked_by) == ("Reply 2.", "")


@pytest.mark.parametrize("failure", [EngineError("busy"), KeyError("x")])
async def test_who_waited_for_a_call_that_failed_asks_again(failure):
    engine = Gated(failure)
    shared = SharedAnswers(engine)
    tasks = await begun(*((shared.asking(name), GREEDY) for name in "abc"))
    engine.gate.set()
    failed, *answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert failed is failure
    assert [answer.text for answer in answers] == ["Reply 2."] * 2
    assert sorted(answer.asked_by for answer in answers) == ["", "b"]


async def test_a_lost_engine_is_lost_for_all_that_wait():
    engine = Gated(FatalEngineError("no memory"))
    shared = SharedAnswers(engine)
    tasks = await begun(*((shared.asking(name), GREEDY) for name in "ab"))
    engine.gate.set()
    assert {str(one) for one in await asyncio.gather(*tasks, return_exceptions=True)} == {"no memory"}
    assert engine.calls == 1
