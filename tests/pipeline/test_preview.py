"""What `prompts show` shows of strategies with several stages."""

import asyncio
import json

import pytest
from whole_flow import FLOW, write_flow

from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.preview import preview
from localemp.strategies.base import Flow
from localemp.strategies.parts import Part
from localemp.strategies.registry import PARTS


def shown(**settings):
    pipeline = Pipeline(RunConfig(model="gpt-4o-mini", **settings))
    return asyncio.run(preview(pipeline, pipeline.dialogues("test")[0]))


def test_two_stages_as_they_always_were():
    feeling, reply = shown(strategy="two-stage")
    assert (feeling.name, reply.name) == ("feeling", "reply")
    assert reply.messages[-2].content == "(what the model finds in stage 1)"
    assert set(reply.as_dict()) == {"stage", "tokens", "messages"}


def test_a_stage_of_every_kind(tmp_path):
    support, appraisal, why, reply, choice = shown(strategy=str(write_flow(tmp_path)))
    assert (support.labels, support.stands_for) == (("Question", "Others", "Reflection"), "Others")
    assert support.as_dict()["sampling"] == {"max_tokens": 16}
    assert appraisal.schema["required"] == ["cause"]
    assert why.when == {"support": ("Others",)}
    assert (reply.candidates, reply.chosen_by, reply.sampling) == (3, "judge", {"temperature": 0.8})
    assert (reply.branch_by, reply.branch_shown, list(reply.branch)) == ("support", "Others", list(support.labels))
    assert reply.messages[-1].content.endswith(
        "Because of (what the model finds in stage 2: cause): Say something. (what the model finds in stage 3)"
    )
    assert (choice.name, choice.messages[0].content) == ("reply.choice", "You are a judge.")
    assert "2. (a candidate for the reply)\n3. " in choice.messages[-1].content


def test_stages_are_numbered_by_the_file_not_by_the_order_of_calls(tmp_path):
    text = """about = "two at once"
[[stages]]
name = "first"
ask = "A?"
[[stages]]
name = "second"
ask = "{first}?"
[[stages]]
name = "third"
ask = "B?"
[[stages]]
name = "reply"
ask = "{second} {third}"
"""
    *_, reply = shown(strategy=str(write_flow(tmp_path, text=text)))
    assert reply.messages[-1].content.endswith("(what the model finds in stage 2) (what the model finds in stage 3)")


class _InPython(Flow):
    async def run(self, exchange):
        feeling = await exchange.ask("feeling", "What?")
        cause = await exchange.ask("cause", f"Why {feeling}?")
        await exchange.ask("reply", turns=[(cause, "And now?")])


def test_the_stages_of_a_flow_in_python(monkeypatch):
    monkeypatch.setitem(PARTS, "in-python", Part(about="asks twice", place="flow", make=lambda _: _InPython()))
    *_, reply = shown(strategy="in-python")
    assert reply.messages[-2].content == "(what the model finds in stage 2)"


@pytest.mark.parametrize("line", ["runs only if support is Others", "3 candidates; a judge", "  Reflection: Reflect"])
def test_the_command_says_it_in_words(localemp, tmp_path, line):
    write_flow(tmp_path)
    done = localemp("prompts", "show", "--model", "gpt-4o-mini", "--strategy", "./mine.toml")
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def test_as_json_all_of_it(localemp, tmp_path):
    write_flow(tmp_path, text=FLOW.replace("max_tokens = 16", "max_tokens = 17"))
    done = localemp("prompts", "show", "--model", "gpt-4o-mini", "--strategy", "./mine.toml", "--json")
    stages = list(map(json.loads, done.stdout.splitlines()))
    assert [stage["stage"] for stage in stages] == ["support", "appraisal", "why", "reply", "reply.choice"]
    assert stages[0]["sampling"] == {"max_tokens": 17}
    assert stages[3]["branch"]["Others"] == "Say something."
