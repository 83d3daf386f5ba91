"""Answers that are one of a list of labels: as a schema, and as the texts that a model is held to.

Servers with the OpenAI API hold an answer to a JSON schema. The vLLM engine holds it to the labels themselves, which
are fewer tokens, and what the model would say anyway.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any


def label_schema(labels: Sequence[str]) -> str:
    """Return the JSON schema of an answer that is one of some labels, as text."""
    return json.dumps(_form(labels))


def label_answer(label: str) -> str:
    """Return a label as an answer of `label_schema` gives it."""
    return json.dumps({"label": label}, ensure_ascii=False)


@cache
def labels_of(schema: str | None) -> tuple[str, ...]:
    """Return the labels of a `label_schema`; empty for any other schema."""
    if schema is None:
        return ()
    try:
        form = json.loads(schema)
        labels = form["properties"]["label"]["enum"]
        return tuple(labels) if form == _form(labels) else ()
    except (ValueError, KeyError, TypeError):
        return ()


def _form(labels: Sequence[str]) -> dict[str, Any]:
    # The description tells it from a schema of the user's own.
    label = {"type": "string", "description": "one of these labels", "enum": list(labels)}
    return {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
