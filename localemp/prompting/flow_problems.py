"""What is wrong in a flow's file, and the words for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from localemp.errors import nearest
from localemp.prompting.flow import FlowForm, Judge, Sees, Stage, StageSampling, Turn
from localemp.prompting.texts import TextError
from localemp.utils.text import one_line
from localemp.utils.toml_lines import Place

Found = Iterator[tuple[Place, str, str]]
"""Places, relative to something larger, with what is wrong there and what to do."""

_SHOWN = 16  # names that a hint lists
_FORMS: Mapping[str, type[BaseModel]] = {
    "": FlowForm,
    "stages": Stage,
    "turns": Turn,
    "sampling": StageSampling,
    "choose": Judge,
}
_KEYS = {
    table: tuple(field.alias or name for name, field in form.model_fields.items()) for table, form in _FORMS.items()
}
# What people write for a key, by the table that it is in.
_MEANT = {
    ("stages", "prompt"): "ask",
    ("stages", "question"): "ask",
    ("stages", "text"): "ask",
    ("stages", "user"): "ask",
    ("stages", "system"): "task",
    ("stages", "instruction"): "task",
    ("stages", "id"): "name",
    ("stages", "messages"): "turns",
    ("stages", "json"): "schema",
    ("stages", "json_schema"): "schema",
    ("stages", "candidates"): "n",
    ("stages", "judge"): "choose",
    ("stages", "if"): "when",
    ("stages", "default"): "otherwise",
    ("sampling", "max_new_tokens"): "max_tokens",
    ("choose", "prompt"): "ask",
    ("", "description"): "about",
}
_EXAMPLES = {
    "about": 'say in one line what the flow does: about = "feeling first, then the reply"',
    "stages": "begin each stage with a line [[stages]]",
    "name": 'give the stage a name: name = "feeling"; that of the last stage is "reply"',
    "ask": 'say what is asked: ask = "..."',
    "turns": 'turns = [{ user = "..." }, { assistant = "{feeling}" }, { user = "..." }]',
    "sees": 'sees = ["task", "dialogue", "exemplars", "knowledge"], or fewer of them',
    "labels": 'labels = ["yes", "no"], or labels = "emotions" for the 32',
    "schema": 'schema = { type = "object", properties = { cause = { type = "string" } }, required = ["cause"] }',
    "sampling": "sampling = { temperature = 0.8, max_tokens = 64 }",
    "choose": 'choose = "vote", or a judge: choose = { ask = "... {candidates} ..." }',
    "when": 'when = { STAGE = ["LABEL"] }: an earlier stage, and its labels for which this one runs',
    "branch": '[stages.branch.STAGE] names an earlier stage; below it, LABEL = "..." for each of its labels',
    "stop": 'stop = ["..."]',
}
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_LENGTHS = ("too_long", "too_short", "string_too_long", "string_too_short")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a flow.

    Attributes:
        place: Where, from the top of the file.
        message: What is wrong.
        hint: What to do.
    """

    place: Place
    message: str
    hint: str = ""


def shown_key(place: Place) -> str:
    """Return keys as a message has them: "turns[2]", "branch.support.Question"."""
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{one_line(part, 60)}" for part in place)
    return key.removeprefix(".")


def did_you_mean(name: str, known: Iterable[str], *, in_braces: bool = False) -> str:
    """Return a hint for an unknown name: the one that is near, or those that are known.

    Args:
        name: The name.
        known: The names that are known.
        in_braces: Whether the names are placeholders.
    """
    names = list(known)
    if near := nearest(name, names):
        near = one_line(near, 60)
        return f"did you mean {{{near}}}?" if in_braces else f"did you mean {near!r}?"
    listed = [one_line(each, 40) for each in names[:_SHOWN]]
    more = [*([f"{{{each}}}" for each in listed] if in_braces else listed), *(["..."] if len(names) > _SHOWN else [])]
    return f"known: {', '.join(more)}"


def places_of(error: ValidationError) -> list[tuple[Place, ErrorDetails]]:
    """Return the errors of pydantic, each with its place in the file, in the order of pydantic."""
    return [(_place(each["loc"]), each) for each in error.errors(include_url=False)]


def _place(loc: Sequence[str | int]) -> Place:
    """Return a place without what pydantic adds: which of two forms a value has, and "[key]" for the key of a table."""
    of_two = len(loc) > 3 and loc[0] == "stages" and loc[2] in ("labels", "choose")
    place = (*loc[:3], *loc[4:]) if of_two else tuple(loc)
    return place[:-1] if place[-1:] == ("[key]",) else place


def in_words(place: Place, error: ErrorDetails, fields: Mapping[str, Any]) -> Problem | None:
    """Return an error of pydantic in plain words; None for one that follows from another.

    Args:
        place: The place.
        error: The error.
        fields: The file.
    """
    kind, limits = error["type"], error.get("ctx", {})
    value = error["input"] if error["loc"][-1] == "[key]" else value_at(fields, place)
    key = next((part for part in reversed(place) if isinstance(part, str)), "")
    example = _EXAMPLES.get(key if place[-1:] == (key,) else "", "")
    if kind == "extra_forbidden":
        return Problem(place, "unknown key", _for_unknown(place, key))
    if kind == "missing":
        beside = value_at(fields, place[:-1])
        if any(_meant(each, _table(place)) == key for each in beside):
            return None  # it is called something else, and that is told
        return Problem(place, "the key is missing", example)
    if kind == "value_error":
        told = limits["error"]
        return Problem(place, str(told), told.hint if isinstance(told, TextError) else "")
    if kind == "literal_error":
        return _none_of(place, key, value)
    if kind in _WANTED:
        if place == ("stages",) and isinstance(value, Mapping):
            return Problem(place, "it is one table, not a list of tables", "write [[stages]], in double brackets")
        return Problem(place, f"expected {_WANTED[kind]}, found {kind_of(value)}", _for_type(place, key, example))
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return Problem(place, f"expected {words} {limits[name]:g}, found {one_line(str(value), 40)}")
    if kind in _LENGTHS:
        return _length(place, key, kind, value, limits)
    if kind == "finite_number":
        return Problem(place, f"expected a finite number, found {one_line(str(value), 40)}")
    return Problem(place, one_line(error["msg"][:1].lower() + error["msg"][1:]))


def value_at(fields: Any, place: Place) -> Any:
    """Return the value at a place of a file; None if there is none."""
    for part in place:
        try:
            fields = fields[part]
        except (KeyError, IndexError, TypeError):
            return None
    return fields


def kind_of(value: object) -> str:
    """Return the type of a TOML value in words."""
    names = {dict: "a table", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "a date or time")


def _table(place: Place) -> str:
    """Return the name of the table that a key is in, a key of `_KEYS`."""
    return next((part for part in reversed(place[:-1]) if isinstance(part, str)), "")


def _meant(key: str, table: str) -> str | None:
    """Return the key of a table that an unknown one probably stands for."""
    return None if key in _KEYS[table] else _MEANT.get((table, key)) or nearest(key, _KEYS[table])


def _for_unknown(place: Place, key: str) -> str:
    """Return the hint for an unknown key."""
    table = _table(place)
    if (table, key) == ("turns", "system"):
        return "that is task, a key of the stage"
    if table == "stages" and key in _KEYS["sampling"]:
        return f"it belongs to sampling: sampling = {{ {key} = ... }}"
    if table == "stages" and key in _KEYS[""]:
        return "it belongs to the top of the file, before the first [[stages]]"
    if table == "" and key in _KEYS["stages"]:
        return "it belongs to a stage: write it below a line [[stages]]"
    if meant := _meant(key, table):
        return f"did you mean {meant!r}?"
    return did_you_mean(key, _KEYS[table])


def _none_of(place: Place, key: str, value: object) -> Problem:
    """Return the problem of a word that is none of those possible."""
    said = repr(one_line(str(value), 60))
    if key == "sees":
        return Problem(place, f"a prompt has no part {said}", did_you_mean(str(value), get_args(Sees)))
    word = "emotions" if key == "labels" else "vote"
    near = f'did you mean "{word}"?' if nearest(str(value), [word]) else _EXAMPLES[key]
    return Problem(place, f"{said} is {'not a list of labels' if key == 'labels' else 'no way to choose'}", near)


def _for_type(place: Place, key: str, example: str) -> str:
    """Return the hint for a value of another type."""
    if key in ("turns", "choose", "sees", "labels"):
        return _EXAMPLES[key]
    if "when" in place:
        return _EXAMPLES["when"]
    if "branch" in place:
        return above_branch(key, place) or _EXAMPLES["branch"]
    return example


def above_branch(key: str, place: Place) -> str:
    """Return the hint for a key of the stage that stands below the header of a branch; empty if it is none."""
    if key not in _KEYS["stages"] or place[-2:-1] == ("branch",):
        return ""
    header = ".".join(part for part in place[:-1] if isinstance(part, str))
    return f"{key}, a key of the stage, must stand above [{header}]"


def _length(place: Place, key: str, kind: str, value: Any, limits: Mapping[str, Any]) -> Problem | None:
    """Return the problem of a text or a list that is too long, or too short."""
    too_long = kind.endswith("too_long")
    limit = limits["max_length" if too_long else "min_length"]
    if key in ("when", "branch") and too_long:
        return Problem(place, f"{len(value)} stages are named", "one earlier stage decides; name one")
    hint = _EXAMPLES.get(key, "")
    if too_long:
        hint = "what needs more is a strategy in Python: docs/extending.md" if key == "stages" else ""
    if not value:
        return Problem(place, "it is empty", hint)
    if not too_long and len(value) >= limit:
        return None  # some entries are wrong, which is told
    unit = {"stages": "stages", "labels": "labels"}.get(key, "entries") if isinstance(value, list) else "characters"
    most = f"at {'most' if too_long else 'least'} {limit:,}"
    return Problem(place, f"expected {most} {unit}, found {len(value):,}", hint)
