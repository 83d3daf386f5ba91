"""Which answers are none: the model refused, or a content filter withheld the text or blocked the prompt.

Services say so in many ways: OpenAI and Azure by the finish reason "content_filter", a field "refusal" or an error;
Gemini by its own finish reasons ("SAFETY"), Bedrock and Anthropic by theirs. Which filter it was, and how severe it
found the text, is told where the service tells it.
"""

from collections.abc import Mapping
from typing import Any

from localemp.utils.text import one_line, well_formed

FILTERED = "content_filter"
"""OpenAI's finish reason, and its code of errors."""

_BY_MODEL = "refusal"
_BY_FILTER = frozenset([FILTERED, "guardrail_intervened", "sensitive"])
# Codes of errors: OpenAI's, Azure's, OpenRouter's, Alibaba's; "invalid_prompt" is OpenAI's of models that reason.
_CODES = frozenset(
    [FILTERED, "content_policy_violation", "responsibleaipolicyviolation", "moderation", "data_inspection_failed",
     "invalid_prompt"]
)  # fmt: skip
_MOST_FILTERS = 8  # that are told
_LONGEST = 300  # characters of a refusal


def why_withheld(text: str, refusal: str, reason: str | None, fields: Mapping[str, Any]) -> str:
    """Return why a choice is no answer; empty if it is one.

    Args:
        text: Its text. What a filter left of one is no answer either.
        refusal: The model's refusal.
        reason: The finish reason, in OpenAI's words if they are known.
        fields: The whole choice, as received.
    """
    kind = (reason or "").lower()
    if kind == _BY_MODEL or (refusal and not text.strip()):
        words = one_line(well_formed(refusal.strip() or text.strip()), _LONGEST)
        return f"the model refused: {words}" if words else "the model refused, without a word"
    if kind in _BY_FILTER:
        own = fields.get("native_finish_reason") or fields.get("finish_reason")  # OpenRouter's of the provider
        told = filters_of(fields) or ("" if own == FILTERED else one_line(well_formed(str(own)), 60))
        return f"the content filter withheld the answer{told and f' ({told})'}"
    return ""


def why_blocked(fields: Mapping[str, Any], unanswered: bool) -> str:
    """Return why a response has no choices; empty if that is not because a filter blocked the prompt.

    Args:
        fields: The response, as received.
        unanswered: Whether it counts a prompt, and no answer.
    """
    told = _blocked_by(fields)
    return f"the content filter blocked the prompt{told and f' ({told})'}" if told or unanswered else ""


def _blocked_by(fields: Mapping[str, Any]) -> str:
    """Return which filter blocked the prompt; empty if none is told."""
    listed = fields.get("prompt_filter_results")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, Mapping) and (told := filters_of(each)):
            return told
    for name in ("promptFeedback", "prompt_feedback"):  # Gemini's
        feedback = fields.get(name)
        if isinstance(feedback, Mapping) and (found := feedback.get("blockReason") or feedback.get("block_reason")):
            return one_line(well_formed(str(found)), 60)
    return ""


def is_filter_error(code: str, inner: Any) -> bool:
    """Return whether an error is a content filter's, by its code or that of the error inside it."""
    more = inner.get("code") if isinstance(inner, Mapping) else None
    return code.lower() in _CODES or (isinstance(more, str) and more.lower() in _CODES)


def filters_of(fields: Any) -> str:
    """Return the filters that were triggered, in words: "self_harm: high, jailbreak". Empty if none is told."""
    found = []
    for name in ("content_filter_results", "content_filter_result"):
        results = fields.get(name) if isinstance(fields, Mapping) else None
        for kind, result in results.items() if isinstance(results, Mapping) else ():
            if isinstance(result, Mapping) and result.get("filtered") is True:
                severity = result.get("severity")
                found.append(f"{kind}: {severity}" if isinstance(severity, str) and severity != "safe" else str(kind))
    return ", ".join(one_line(well_formed(each), 60) for each in found[:_MOST_FILTERS])
