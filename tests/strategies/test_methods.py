"""The flows of other publications' methods: each is sound, runs in both layouts, and has a row in docs/methods.md."""

import json
import re

import pytest
from repository import REPOSITORY

from localemp.dialogue import EMOTIONS, Dialogue
from localemp.engines.scripted import ScriptedEngine
from localemp.experiments.expand import expand
from localemp.experiments.plan import read_plan
from localemp.prompting.flow_files import bundled_flows, load_flow
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.parts import PartContext
from localemp.strategies.registry import all_strategies, build_strategy, parse_strategy

PAPER = ("zero-shot", "two-stage")
SCHOOLS = ("coe-cbt", "coe-dbt", "coe-pct", "coe-rt")
STAGES = {
    "empathetic": ["reply"],
    **{name: ["reasoning", "reply"] for name in SCHOOLS},
    "hef": ["feeling", "cause", "reply"],
    "cue-cot": ["status", "reply"],
    "appraisal": ["person", "event", "appraisal", "reply"],
    "esconv": ["support", "reply"],
    "self-refine": ["draft", "feedback", "reply"],
    "best-of-n": [*["reply.candidate"] * 3, "reply.choice", "reply"],
}
"""The calls of each method, in the order in which a response has them."""

DOG = Dialogue("dog", ("My dog died.", "Oh no.", "He was {old}."), conversations=("c-dog",))
TEMPLATE = load_template("paper")


async def respond(tmp_path, name, *entries, layout="chat"):
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    strategy = build_strategy(name, Prompts(TEMPLATE, layout), Sampling(max_tokens=10), PartContext(template=TEMPLATE))
    return await strategy.respond(DOG, ScriptedEngine.from_file(path))


def test_each_bundled_flow_is_the_papers_or_a_method():
    assert {*bundled_flows()} == {*PAPER, *STAGES}


@pytest.mark.parametrize("layout", ["chat", "transcript"])
@pytest.mark.parametrize("name", STAGES)
async def test_every_stage_is_asked_and_leaves_no_placeholder(tmp_path, name, layout):
    answers = [f"Answer {number}." for number in range(9)]
    labels = {"match": "Answer with the ", "where": "last", "reply": "I say Question, or sad, or 2."}
    response = await respond(tmp_path, name, labels, {"reply": answers}, layout=layout)
    assert [stage.name for stage in response.stages] == STAGES[name]
    for stage in response.stages:
        sent = "\n".join(message.content for message in stage.messages)
        assert re.findall(r"{\w*}", sent) == ["{old}"], f"only the speaker wrote braces: {sent}"
        assert "My dog died." in sent
        assert "\n\n\n" not in sent
        assert all(message.content == message.content.strip() for message in stage.messages)
    assert response.reply in answers


@pytest.mark.parametrize("name", [name for name, stages in STAGES.items() if len(stages) > 1 and name != "best-of-n"])
async def test_the_reply_quotes_every_stage_before_it(tmp_path, name):
    labels = {"match": "Answer with the ", "where": "last", "reply": "sad"}
    response = await respond(tmp_path, name, labels, {"reply": [f"Answer {number}." for number in range(9)]})
    *before, reply = response.stages
    for stage in before:
        if name != "esconv":
            assert stage.completion.text in reply.messages[-1].content


@pytest.mark.parametrize("label", load_flow(bundled_flows()["esconv"]).stages[0].all_labels)
async def test_the_reply_of_esconv_follows_the_chosen_strategy(tmp_path, label):
    first, last = _stages("esconv")
    choice = {"match": "name of the strategy", "reply": label}
    response = await respond(tmp_path, "esconv", choice, {"reply": "I see."})
    wanted = last.branch["support"]
    assert wanted[label] in response.stages[-1].messages[-1].content
    assert not any(text in response.stages[-1].messages[-1].content for other, text in wanted.items() if other != label)
    assert f"\n{label}: " in response.stages[0].messages[-1].content
    assert first.otherwise == "Others"


async def test_hef_asks_for_one_of_the_32_emotions(tmp_path):
    response = await respond(tmp_path, "hef", {"match": "Which one", "reply": "Grief? sad"}, {"reply": "died"})
    assert ", ".join(EMOTIONS) in response.stages[0].messages[-1].content
    assert "Emotion: sad\nCause: died\n" in response.stages[-1].messages[-1].content


async def test_the_judge_sees_conversation_and_candidates(tmp_path):
    judge = {"match": "its number only", "reply": "3"}
    response = await respond(tmp_path, "best-of-n", judge, {"reply": ["One.", "Two.", "Three.", "Four."]})
    asked = response.stages[-2].messages[-1].content
    assert "Listener: Oh no.\nSpeaker: He was {old}.\n\n" in asked
    assert "1. One.\n2. Two.\n3. Three.\n4. Four.\n\n" in asked
    assert response.reply == "Three."


@pytest.mark.parametrize("name", STAGES)
def test_what_a_method_says_of_itself(name):
    flow, text = load_flow(bundled_flows()[name]), bundled_flows()[name].read_text("utf-8")
    assert len(flow.about) < 70, "it is a line of --help"
    assert text.startswith("# "), "a comment says whose words these are"
    assert "ours" in text
    assert bool(re.search(r"\(20\d\d\)", flow.source)) == (name != "empathetic")
    assert parse_strategy(f"similar+{name}") == ("similar", name)
    assert name not in all_strategies(), "serve offers a method only if it is named"


def test_only_replies_see_exemplars():
    for name in STAGES:
        for stage in load_flow(bundled_flows()[name]).stages:
            assert ("exemplars" in stage.sees) == (stage.name in ("reply", "draft"))


def test_the_plan_has_every_method():
    strategies = [row.config.strategy for row in expand(read_plan("methods"))]
    assert strategies == ["zero-shot", "few-shot", "similar", "two-stage", "knowledge", *STAGES]


def test_the_page_has_a_row_for_every_method():
    rows = [
        line for line in (REPOSITORY / "docs" / "methods.md").read_text("utf-8").splitlines() if line.startswith("| [`")
    ]
    told = {name: row.split("|")[3:5] for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert list(told) == list(STAGES)
    for name, (calls, at_once) in told.items():
        assert int(calls) == len(STAGES[name])
        first = sum(not load_flow(bundled_flows()[name]).needs[stage.name] for stage in _stages(name))
        candidates = max(stage.n for stage in _stages(name))
        assert int(at_once.strip() or 1) == max(first, candidates)


def _stages(name):
    return load_flow(bundled_flows()[name]).stages
