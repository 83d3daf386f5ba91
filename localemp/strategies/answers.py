"""How the answer of a stage is read: as a text, as one of a list of labels, or as JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from localemp.engines.base import TRUNCATED, Completion
from localemp.engines.labels import label_schema
from localemp.errors import EngineError
from localemp.prompting.flow import Stage
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line

_LONGEST = 200  # characters of an answer in an error
_DEEPEST = 50  # levels of an answer; the line of a run that holds it has some more, and is limited, too


class StageError(EngineError):
    """The answer of a stage is none of its labels, or not the JSON that it asked for."""


def answer_schema(stage: Stage) -> str | None:
    """Return the JSON schema of a stage's answer, as text; None if the answer is a text."""
    if stage.all_labels:
        return label_schema(stage.all_labels)
    return None if stage.json_schema is None else json.dumps(stage.json_schema)


def read_answer(stage: Stage, completion: Completion) -> Any:
    """Return the label or the JSON of an answer; None if the answer is a text.

    Raises:
        StageError: It is neither a label, and the stage has no `otherwise`, nor JSON of the stage's schema.
        StillThinkingError: The model only thought.
    """
    text = completion.require_text()
    if stage.all_labels:
        return find_label(text, stage.all_labels) or stage.otherwise or _no_label(stage, text)
    if stage.json_schema is not None:
        return _read_json(stage, text, cut=completion.finish_reason == TRUNCATED)
    return None


def find_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer gives: its field "label", else the label that comes first; None if none does.

    Case is ignored. Of labels that begin at one place the longest counts.
    """
    known = {label.strip().casefold(): label for label in labels}
    try:
        said = _parse(text)
    except JSONError:
        said = None
    if isinstance(said, Mapping):
        said = said.get("label")
    if isinstance(said, str) and said.strip().casefold() in known:
        return known[said.strip().casefold()]
    found = _pattern(tuple(known)).search(text.casefold())
    return known[found[0]] if found else None


def _parse(text: str) -> Any:
    """Return the JSON of an answer, which may have a text or a fence around an object."""
    return parse_json(text[text.find("{") : text.rfind("}") + 1] or text, _DEEPEST, storable=True)


@cache
def _pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _no_label(stage: Stage, text: str) -> str:
    raise StageError(
        f"stage {stage.name!r} answered none of its labels: {one_line(text, _LONGEST)!r}",
        'give the stage an `otherwise = "..."`, or ask for one of {labels}',
    )


def _read_json(stage: Stage, text: str, *, cut: bool) -> Any:
    from jsonschema import Draft202012Validator

    try:
        value = _parse(text)
    except JSONError as error:
        why = "it was cut at max_tokens" if cut else str(error)
        hint = "give the stage a larger max_tokens, or ask for less" if cut else "ask for JSON, and show its form"
        raise StageError(
            f"stage {stage.name!r} did not answer with JSON: {why}: {one_line(text, _LONGEST)!r}", hint
        ) from error
    problem = next(Draft202012Validator(stage.json_schema).iter_errors(value), None)
    if problem is not None:
        where = ".".join(map(str, problem.absolute_path)) or "the answer"
        raise StageError(
            f"stage {stage.name!r} did not answer with JSON of its schema: {where}: {one_line(problem.message, 200)}",
            "ask for every field by its name, or use an engine that holds the schema (docs/flows.md)",
        )
    return value


def quoted(value: Any) -> str:
    """Return a value of an answer's JSON as a text shows it; nothing for one that is null or missing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
