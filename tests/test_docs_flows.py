"""Every flow in docs/flows.md is valid, and its errors are what a user sees."""

import re

import pytest
from repository import REPOSITORY

from localemp.errors import PromptError
from localemp.prompting import flow, flow_checks
from localemp.prompting.answer_schema import KEYS
from localemp.prompting.flow_files import parse_flow

PAGE = (REPOSITORY / "docs" / "flows.md").read_text("utf-8")
FLOWS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ERRORS = re.findall(r"^    error: (.*)\n    hint: (.*)\n", PAGE, re.MULTILINE)


@pytest.mark.parametrize("number", range(len(FLOWS)))
def test_an_example_is_a_valid_flow(number):
    read = parse_flow(FLOWS[number].encode(), "mine", "mine.toml")
    assert read.stages[-1].name == "reply"


def test_the_errors_are_those_of_the_first_flow():
    wrong_key, wrong_name = FLOWS[0].replace("ask =", "prompt ="), FLOWS[0].replace("{worst}", "{worts}")
    assert len(ERRORS) == 2
    for text, told in zip((wrong_key, wrong_name), ERRORS, strict=True):
        with pytest.raises(PromptError) as raised:
            parse_flow(text.encode(), "mine", "mine.toml")
        assert (raised.value.message, raised.value.hint, raised.value.others) == (*told, ())


def test_every_key_and_limit_is_described():
    keys = [field.alias or name for name, field in flow.Stage.model_fields.items()]
    for key in [*keys, *flow.StageSampling.model_fields, *flow_checks.VARIANT_TEXTS, *KEYS]:
        assert f"`{key}`" in PAGE, key
    for limit in (flow.MOST_STAGES, flow.MOST_CANDIDATES, flow.MOST_LABELS):
        assert re.search(rf"\| {limit}(,| \|)", PAGE), limit
