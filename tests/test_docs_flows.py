"""Every flow in docs/flows.md is valid, and its errors are what a user sees."""

import asyncio
import json
import re
from typing import Any

import pytest
from repository import REPOSITORY

from localemp.dialogue import Dialogue
from localemp.engines.base import Completion, Engine
from localemp.errors import PromptError
from localemp.prompting import flow
from localemp.prompting.answer_schema import KEYS
from localemp.prompting.flow_files import parse_flow
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.flows import StagedFlow
from localemp.strategies.strategy import Strategy

PAGE = (REPOSITORY / "docs" / "flows.md").read_text("utf-8")
FLOWS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ERRORS = re.findall(r"^    error: (.*)\n    hint: (.*)\n", PAGE, re.MULTILINE)


class Obedient(Engine):
    """Holds every schema: the first label, or JSON with every field."""

    name = "obedient"

    async def chat(self, messages, sampling):
        schema = json.loads(sampling.schema) if sampling.schema else None
        return Completion("All is well." if schema is None else json.dumps(_value(schema)), "stop")

    def describe(self) -> dict[str, Any]:
        return {}


def _value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: _value(inner) for name, inner in schema["properties"].items()}
    return [_value(schema["items"])] if schema["type"] == "array" else "Peace."


def answered(text: str):
    """The response of a flow."""
    template = load_template("paper")
    made = StagedFlow(parse_flow(text.encode(), "mine", "mine.toml"), template)
    strategy = Strategy("mine", Prompts(template), Sampling(), (), made)
    return asyncio.run(strategy.respond(Dialogue("a", ("I lost my job.",), emotion="sad"), Obedient()))


@pytest.mark.parametrize(
    ("number", "stages", "shown"),
    [
        (0, "worst reply", "Reply to that, warmly, in two sentences."),
        (1, "support cause reply", "Ask about this: All is well. One or two sentences."),
        (2, "appraisal reply", "They went through this: Peace. They need: Peace.. Reply to them."),
        (3, "reply.candidate reply.candidate reply.candidate reply", "I lost my job."),
        (4, "reply", "Now combine your thoughts"),
    ],
)
def test_an_example_runs(number, stages, shown):
    response = answered(FLOWS[number])
    assert [stage.name for stage in response.stages] == stages.split()
    assert shown in response.stages[-1].messages[-1].content
    assert response.reply == "All is well."


def test_every_example_is_run():
    assert len(FLOWS) == 5


def test_the_errors_are_those_of_the_first_flow():
    wrong_key, wrong_name = FLOWS[0].replace("ask =", "prompt ="), FLOWS[0].replace("{worst}", "{worts}")
    assert len(ERRORS) == 2
    for text, told in zip((wrong_key, wrong_name), ERRORS, strict=True):
        with pytest.raises(PromptError) as raised:
            parse_flow(text.encode(), "mine", "mine.toml")
        assert (raised.value.message, raised.value.hint, raised.value.others) == (*told, ())


def test_every_key_and_limit_is_described():
    keys = [field.alias or name for name, field in flow.Stage.model_fields.items()]
    for key in [*keys, *flow.StageSampling.model_fields, *flow.VARIANT_TEXTS, *KEYS]:
        assert f"`{key}`" in PAGE, key
    for limit in (flow.MOST_STAGES, flow.MOST_CANDIDATES, flow.MOST_LABELS):
        assert re.search(rf"\| {limit}(,| \|)", PAGE), limit
