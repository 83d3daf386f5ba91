"""The schema of answers that are one of a list of labels."""

import json

import pytest
from jsonschema import Draft202012Validator

from localemp.engines.labels import label_answer, label_schema, labels_of

LABELS = ("Question", 'say "no"', "wütend")


def test_a_label_as_an_answer_is_valid():
    form = Draft202012Validator(json.loads(label_schema(LABELS)))
    assert all(form.is_valid(json.loads(label_answer(label))) for label in LABELS)
    assert not form.is_valid({"label": "Others"}) and not form.is_valid({"label": "Question", "more": 1})


def test_labels_are_found_in_their_own_schema():
    assert labels_of(label_schema(LABELS)) == LABELS


@pytest.mark.parametrize(
    "schema",
    [None, "{}", "[]", "nothing", '{"properties": {"label": {"enum": 3}}}',
     '{"type": "object", "properties": {"label": {"type": "string", "enum": ["a", "b"]}}, "required": ["label"], '
     '"additionalProperties": false}'],
    ids=["none", "empty", "list", "no-json", "number", "of-a-users-own"],
)  # fmt: skip
def test_another_schema_has_no_labels(schema):
    assert labels_of(schema) == ()
