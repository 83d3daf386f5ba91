"""Answers that are none, as services say it: refusals, and what content filters withhold or block."""

import json

import pytest

from localemp.protocol.completions import read_completion
from localemp.protocol.errors import MalformedResponseError, ServerError

AZURE = {
    "hate": {"filtered": False, "severity": "safe"},
    "self_harm": {"filtered": True, "severity": "high"},
    "jailbreak": {"filtered": True, "detected": True},
}
TOLD = "self_harm: high, jailbreak"


def choice(text="Oh no.", reason="stop", refusal=None, **fields):
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {"index": 0, "message": message, "finish_reason": reason, **fields}


def read(**fields):
    return read_completion(json.dumps({"object": "chat.completion", **fields}))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (choice(), ""),
        (choice(""), ""),
        (choice(reason="length", content_filter_results={"hate": {"filtered": False}}), ""),
        (choice(refusal="I would rather not."), ""),  # beside a text
        (choice(None, refusal="I cannot\nhelp."), "the model refused: I cannot help."),
        (choice(None, reason="content_filter", refusal="No."), "the model refused: No."),
        (choice([{"type": "refusal", "refusal": "No."}]), "the model refused: No."),
        (choice("", "refusal"), "the model refused, without a word"),
        (choice("I should not", "refusal"), "the model refused: I should not"),
        (choice(None, "content_filter"), "the content filter withheld the answer"),
        (choice("Half a", "content_filter"), "the content filter withheld the answer"),
        (
            choice("", "content_filter", content_filter_results=AZURE),
            f"the content filter withheld the answer ({TOLD})",
        ),
        (choice(None, "SAFETY"), "the content filter withheld the answer (SAFETY)"),
        (choice(None, "content_filter: RECITATION"), "the content filter withheld the answer (content_filter: RECITA"),
        (choice("", "guardrail_intervened"), "the content filter withheld the answer (guardrail_intervened)"),
        (choice("", "content_filter", content_filter_results=[7]), "the content filter withheld the answer"),
        (choice("", "content_filter", content_filter_results={"x": 1, "y": {"filtered": "yes"}}), "the content filter"),
    ],
)
def test_why_a_choice_is_no_answer(given, told):
    found = read(choices=[given]).choices[0].withheld
    assert found.startswith(told) and bool(found) == bool(told)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": AZURE}]}, f" ({TOLD})"),
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, " (PROHIBITED_CONTENT)"),
        ({"prompt_feedback": {"block_reason": "OTHER"}}, " (OTHER)"),
        ({"usage": {"prompt_tokens": 20, "completion_tokens": 0}}, ""),
    ],
    ids=["azure", "gemini", "gemini-sdk", "counts"],
)
def test_a_blocked_prompt_has_no_choices(fields, told):
    assert read(choices=[], **fields).blocked == f"the content filter blocked the prompt{told}"


@pytest.mark.parametrize("fields", [{}, {"prompt_filter_results": 7, "promptFeedback": []}], ids=["none", "junk"])
def test_no_choices_without_a_reason_may_come_right(fields):
    with pytest.raises(MalformedResponseError, match="no choices"):
        read(choices=[], **fields)


@pytest.mark.parametrize(
    ("error", "is_filter", "filters"),
    [
        ({"code": "content_filter", "innererror": {"content_filter_result": AZURE}}, True, TOLD),
        ({"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, True, ""),
        ({"code": "content_policy_violation"}, True, ""),
        ({"code": None, "type": "content_filter"}, True, ""),
        ({"code": "data_inspection_failed"}, True, ""),
        ({"message": "m", "metadata": {"reasons": ["violence"]}}, True, ""),
        ({"code": "rate_limit_exceeded"}, False, ""),
        ({"code": 400, "innererror": 7}, False, ""),
    ],
)
def test_errors_of_filters(error, is_filter, filters):
    found = ServerError.parse({"error": error}, 400)
    assert (found.is_filter, found.filters) == (is_filter, filters)
