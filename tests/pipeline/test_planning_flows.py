"""What a dry run knows of a flow beforehand: the longest prompts, and whose answers they quote."""

import asyncio
import json

import pytest
from stage_prompts import flow_of
from whole_flow import write_flow

from localemp.dialogue import Dialogue
from localemp.engines.base import Completion, Engine
from localemp.engines.planner import Planner
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.strategy import Strategy

DIALOGUE = Dialogue("a", ("I lost my job today.",))


def words(messages):
    return " ".join(message.content for message in messages).split()


class Wordy(Engine):
    """Answers as long as it may, with one label where labels are possible; keeps the lengths of prompts and replies."""

    name = "wordy"

    def __init__(self, label):
        self.label, self.lengths = label, []

    async def chat(self, messages, sampling):
        self.lengths.append(len(words(messages)) + sampling.max_tokens)
        if sampling.schema and "Reflection" in sampling.schema:
            return Completion(self.label, "stop")
        text = " ".join(["long"] * sampling.max_tokens)
        return Completion(
            json.dumps({"cause": text}) if sampling.schema and "cause" in sampling.schema else text, "stop"
        )

    def describe(self):
        return {}


@pytest.fixture
def strategy(tmp_path):
    template = load_template("paper")
    return Strategy("mine", Prompts(template), Sampling(max_tokens=50), (), flow_of(str(write_flow(tmp_path))))


@pytest.mark.parametrize("label", ["Question", "Others", "Reflection"])
def test_no_prompt_is_longer_than_the_dry_run_said(strategy, label):
    planner, engine = Planner(words, 10**6), Wordy(label)
    asyncio.run(strategy.respond(DIALOGUE, planner))
    asyncio.run(strategy.respond(DIALOGUE, engine))
    assert max(engine.lengths) <= planner.longest
    assert planner.longest < max(engine.lengths) + 60, "nor is it far from the truth: a stage may not run"


def test_a_dry_run_says_whose_answers_a_prompt_quotes(strategy):
    planner = Planner(words, 10**6)
    planner.calls = []
    asyncio.run(strategy.respond(DIALOGUE, planner))
    stages = [call.stage for call in planner.calls]
    assert stages == ["support", "appraisal", "why", "reply", "reply", "reply", "reply.choice"]
    quotes = {call.stage: {quote.stage: quote.times for quote in call.quotes} for call in planner.calls}
    assert quotes["reply"] == {"appraisal": 1, "why": 1}
    assert quotes["reply.choice"] == {"reply": 3}
    assert len({call.answer for call in planner.calls if call.stage != "reply.choice"}) == 4, "each has its own word"
