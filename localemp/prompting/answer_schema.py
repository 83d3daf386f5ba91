"""What the JSON schema of a stage's answer may say: what engines can hold, and what is quick to check."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from localemp.prompting.flow_problems import Found, did_you_mean, kind_of
from localemp.utils.text import one_line

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
KEYS = ("type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "description",
         "title", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum",
         "exclusiveMaximum")  # fmt: skip
# Keys of JSON Schema that are refused: engines differ in them, and checking a `pattern` could take for ever.
_SAY = "say it in the ask"
_INSTEAD = {
    **dict.fromkeys(("format", "not", "if", "then", "else", "contains", "uniqueItems", "multipleOf"), _SAY),
    **dict.fromkeys(("minProperties", "maxProperties", "propertyNames", "prefixItems"), _SAY),
    **dict.fromkeys(("default", "examples"), 'describe it: description = "..."'),
    **dict.fromkeys(("$ref", "$defs", "definitions"), "write everything out"),
    "pattern": "list the possible texts: enum = [...], or say it in the ask",
    "patternProperties": "name every field in properties",
    "oneOf": "write anyOf",
    "allOf": "write one schema that says everything",
}
_LONGEST = 20_000
_FORM = 'schema = { type = "object", properties = { cause = { type = "string" } }, required = ["cause"] }'


def problems_of_schema(schema: Mapping[str, Any]) -> Found:
    """Yield what is wrong with a schema, by the place in it."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        yield (), "it has a number that is not finite", "give another limit"
        return
    if size > _LONGEST:
        yield (), f"it has more than {_LONGEST:,} characters", "ask for less"
        return
    fields = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(fields, dict) or not fields:
        yield (), "it does not describe an object with properties", _FORM
        return
    found = list(_within(schema))
    yield from found or _invalid(schema)


def _within(schema: Any) -> Found:
    """Yield the problems of a schema and of those inside it."""
    if not isinstance(schema, dict):
        yield (), f"expected a table, found {kind_of(schema)}", '{ type = "string" }'
        return
    for key in schema:
        if key not in KEYS:
            known = key in _INSTEAD
            hint = _INSTEAD[key] if known else did_you_mean(key, KEYS)
            yield (key,), "not supported in the schema of an answer" if known else "unknown key of a schema", hint
    types: Any = schema.get("type")
    fields: Any = schema.get("properties")
    required: Any = schema.get("required")
    for said in types if isinstance(types, list) else [types]:
        if isinstance(said, str) and said not in _TYPES:
            yield ("type",), f"{one_line(said, 60)!r} is not a type", did_you_mean(said, _TYPES)
    for name in required if isinstance(required, list) and isinstance(fields, dict) else ():
        if isinstance(name, str) and name not in fields:
            yield ("required",), f"{one_line(name, 60)!r} is not among the properties", did_you_mean(name, fields)
    for place, inner in _inner(schema):
        for more, message, hint in _within(inner):
            yield (*place, *more), message, hint


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the schemas inside one, by place."""
    if isinstance(fields := schema.get("properties"), dict):
        yield from ((("properties", name), inner) for name, inner in fields.items())
    if isinstance(choices := schema.get("anyOf"), list):
        yield from ((("anyOf", at), inner) for at, inner in enumerate(choices))
    for key in ("items", "additionalProperties"):
        if not isinstance(schema.get(key, True), bool):
            yield (key,), schema[key]


def _invalid(schema: Mapping[str, Any]) -> Found:
    """Yield the first problem that the definition of JSON Schema finds."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield tuple(error.path), one_line(error.message), "see json-schema.org for its form"
