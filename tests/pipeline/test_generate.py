"""A batch: what fails alone, what ends it, and what is counted."""

import logging
from dataclasses import replace

import pytest
from stage_prompts import flow_of

from localemp.dialogue import Dialogue
from localemp.engines.base import Completion, Engine
from localemp.engines.planner import MARGIN, Planner
from localemp.errors import EngineError, FatalEngineError, OptionError, StillThinkingError
from localemp.pipeline.generate import Tally, answer_all, draft_all, plan
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.runs.run import Run, read_records, response_record
from localemp.sampling import Sampling
from localemp.strategies.strategy import Strategy

DIALOGUES = [Dialogue(f"d{n}", (f"Story {n}.",)) for n in range(6)]


class Faulty(Engine):
    """Fails as it is told for the stories that are named."""

    name = "faulty"

    def __init__(self, **failures):
        self.failures = failures

    async def chat(self, messages, sampling):
        for name, error in self.failures.items():
            if f"Story {name[1:]}." in messages[-1].content:
                raise error
        return Completion("Oh.", "stop", 3, 1)

    def describe(self):
        return {}


def strategy(flow=None, keep_thinking=False):
    return Strategy(
        "test", Prompts(load_template("paper"), "chat"), Sampling(max_tokens=10), (), flow, keep_thinking=keep_thinking
    )


async def run(tmp_path, engine):
    drafts = await draft_all(strategy(), DIALOGUES)
    with Run.open(tmp_path, {}) as kept:
        tally = await answer_all(strategy(), drafts, engine, kept)
    return tally, {record["id"]: record for record in read_records(tmp_path)}


async def test_a_fault_that_nobody_foresaw_is_one_failed_line(tmp_path, caplog):
    engine = Faulty(d1=KeyError("x"), d2=EngineError("no", "wait"), d3=RecursionError(), d4=ValueError("half \ud83d"))
    tally, records = await run(tmp_path, engine)
    assert (tally.done, tally.failed) == (2, 4)
    assert [records[name]["error"] for name in ("d1", "d2", "d3", "d4")] == [
        {"type": "KeyError", "message": "'x'"},
        {"type": "EngineError", "message": "no", "hint": "wait"},
        {"type": "RecursionError", "message": ""},
        {"type": "ValueError", "message": "half \ufffd"},
    ]
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [type(record.exc_info[1]) for record in logged] == [KeyError, RecursionError, ValueError]


@pytest.mark.parametrize("error", [FatalEngineError("no more"), OptionError("wrong for all")])
async def test_what_concerns_all_ends_a_batch(tmp_path, error):
    with pytest.raises(type(error)):
        await run(tmp_path, Faulty(d3=error))


async def test_a_dialogue_that_the_template_refuses_is_left_out_of_the_plan():
    def encode(messages):
        if "Story 2." in messages[-1].content:
            raise EngineError("the model's chat template rejects the dialogue")
        return range(40)

    drafts = await draft_all(strategy(), DIALOGUES)
    assert await plan(strategy(), drafts, Planner(encode, 1000)) == 40 + 10 + MARGIN


def test_tokens_that_nobody_told_are_not_zero():
    tally = Tally(3, started=0.0, ended=2.0)
    tally.add(Completion("a", "stop", 10, 4).record())
    assert tally.tokens_per_s == 2.0
    tally.add(Completion("b", "stop", 10, None).record())
    tally.add(Completion("c", "stop").record())
    assert (tally.calls, tally.uncounted) == (3, 2)
    assert (tally.prompt_tokens, tally.completion_tokens) == (10, 4)
    assert tally.tokens_per_s is None


class Thinker(Engine):
    """Answers in turn."""

    name = "thinker"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    async def chat(self, messages, sampling):
        self.calls.append(messages)
        return self.answers.pop(0)

    def describe(self):
        return {}


SAD, OH = Completion("They are sad.", "stop", thinking="Hm."), Completion("Oh.", "stop", thinking="What to say?")
LOST = Completion(" \n", "length", thinking="So the speaker")


async def test_thinking_is_kept_apart_from_replies_and_stages():
    engine = Thinker(SAD, OH)
    response = await strategy(flow_of()).respond(DIALOGUES[0], engine)
    assert (response.reply, response.raw) == ("Oh.", "Oh.")
    assert "Hm." not in "".join(message.content for message in engine.calls[1])
    record = response_record(response)
    assert [(stage["text"], stage["thinking"]) for stage in record["stages"]] == [
        ("They are sad.", "Hm."), ("Oh.", "What to say?"),
    ]  # fmt: skip
    tally = Tally(1)
    del record["stages"][0]["thinking"]  # as runs had it before
    tally.add(record)
    assert tally.done == 1


async def test_the_tokens_of_thinking_are_counted_apart():
    engine = Thinker(replace(SAD, thinking_tokens=3), replace(OH, thinking_tokens=4))
    record = response_record(await strategy(flow_of()).respond(DIALOGUES[0], engine))
    assert [stage["thinking_tokens"] for stage in record["stages"]] == [3, 4]
    tally = Tally(3)
    tally.add(record)
    plain = response_record(await strategy().respond(DIALOGUES[0], Thinker(Completion("Oh.", "stop"))))
    assert "thinking_tokens" not in plain["stages"][0], "as runs had it before"
    tally.add(plain)
    assert tally.thinking_tokens == 7
    tally.add(OH.record())
    assert tally.thinking_tokens is None, "it thought, and nobody counted how much"


async def test_thinking_is_kept_in_the_reply_where_it_is_wanted():
    keeping = strategy(keep_thinking=True)
    response = await keeping.respond(DIALOGUES[0], Thinker(OH))
    assert (response.reply, response.raw) == ("<think>\nWhat to say?\n</think>\n\nOh.", "Oh.")
    assert (await keeping.respond(DIALOGUES[0], Thinker(Completion("Oh.", "stop")))).reply == "Oh."
    assert keeping.describe() == strategy().describe() | {"keep_thinking": True}


@pytest.mark.parametrize(("flow", "answers"), [(None, [LOST]), (flow_of(), [LOST]), (flow_of(), [SAD, LOST])])
async def test_a_model_that_has_not_thought_to_the_end_gave_no_reply(flow, answers):
    with pytest.raises(StillThinkingError, match="still thinking") as raised:
        await strategy(flow).respond(DIALOGUES[0], Thinker(*answers))
    assert "--max-tokens" in raised.value.hint
    assert type(raised.value) is StillThinkingError


async def test_a_model_that_ends_its_turn_within_its_thinking_reached_no_limit():
    with pytest.raises(StillThinkingError, match="ended its turn while it was still thinking") as raised:
        await strategy().respond(DIALOGUES[0], Thinker(replace(LOST, finish_reason="stop")))
    assert "--max-tokens" not in raised.value.hint
