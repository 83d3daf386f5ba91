"""JSON formats: our own lines, ParlAI's world logs, and the lists of EmpDG's `models_result.json`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from localemp.errors import DataError
from localemp.imports.items import Item
from localemp.imports.lines import REPLY
from localemp.utils.json_reader import JSONError, kind_of, parse_json
from localemp.utils.text import is_well_formed

_EXAMPLE = 'each line is one JSON object, such as {"id": "a", "reply": "Oh no!"}'
_LOGS = "give the .jsonl of `parlai eval_model --save-world-logs True --report-filename NAME`"
_REFERENCES = "ref"


def read_jsonl(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read objects with `reply` and, if known, `id`, `reference`, `emotion`, `feeling` and `turns`.

    If no line has an id, the lines are the rows of the data, in order. Other keys are ignored.

    Raises:
        DataError: A line is not a JSON object, has no reply, a value of the wrong type, or the id of an earlier line;
            or only some lines have an id.
    """
    items: list[Item] = []
    line_of: dict[str, int] = {}
    for number, record in _objects(path, lines, _EXAMPLE):
        if record.get("reply") is None:
            raise DataError(path, 'no "reply"', "leave the line out, or give an empty text for an empty reply", number)
        name = record.get("id")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        identity = _text(path, number, {"id": name}, "id")
        if items and (identity is None) != (items[0].id is None):
            have = "no id, and earlier lines have one" if identity is None else "an id, and earlier lines have none"
            raise DataError(path, have, "give every line an id, or none", number)
        if identity is not None:
            if identity in line_of:
                taken = f"id {identity!r} is taken by line {line_of[identity]}"
                raise DataError(path, taken, "give every line its own id", number)
            line_of[identity] = number
        reply, reference, emotion, feeling = (
            _text(path, number, record, key) for key in ("reply", "reference", "emotion", "feeling")
        )
        turns = _texts(path, number, record, "turns")
        row = len(items) if identity is None else _row_of(identity)
        items.append(Item(number, {REPLY: reply or ""}, identity, row, turns, reference, emotion, feeling))
    return items


def _row_of(identity: str) -> int | None:
    """The row that an id names, if it is a number."""
    return int(identity) if re.fullmatch("0|[1-9][0-9]{0,8}", identity) else None


def is_jsonl(lines: Sequence[str]) -> bool:
    """Return whether the first line is an object with a reply."""
    return "reply" in _first_object(lines)


def read_parlai(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read one episode a line: `{"dialog": [[{teacher}, {model}], ...]}`; every pair is an item.

    The teacher's `text` is the speaker's turn; its `eval_labels` (`labels`) is the listener's real reply, which later
    turns continue; the model's `text` is the reply.

    Raises:
        DataError: A line is not a JSON object with a dialog, or a pair lacks a side or its text.
    """
    items: list[Item] = []
    for number, record in _objects(path, lines, _LOGS):
        dialog = record.get("dialog")
        if not isinstance(dialog, list):
            raise DataError(path, 'no "dialog" with a list of exchanges', _LOGS, number)
        turns: list[str] = []
        for exchange in dialog:
            if not (
                isinstance(exchange, list) and len(exchange) == 2 and all(isinstance(act, dict) for act in exchange)
            ):
                raise DataError(path, "an exchange is not what the teacher and what the model said", _LOGS, number)
            teacher, model = exchange
            labels = _texts(path, number, teacher, "eval_labels") or _texts(path, number, teacher, "labels")
            spoken = _text(path, number, teacher, "text") or ""
            label = labels[0].strip() if labels else None
            reply = _text(path, number, model, "text")
            if reply is None:
                raise DataError(path, 'the model\'s side of an exchange has no "text"', _LOGS, number)
            turns.append(spoken)
            emotion = _text(path, number, teacher, "emotion")
            items.append(Item(number, {REPLY: reply}, context=tuple(turns), reference=label, emotion=emotion))
            turns.append(label or "")
    return items


def is_parlai(lines: Sequence[str]) -> bool:
    """Return whether the first line is an object with a dialog."""
    return "dialog" in _first_object(lines)


def read_lists(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read one object of lists of equal length: the replies by system, and the references under `ref`.

    Raises:
        DataError: It is not such an object, or a list has another length or holds anything but strings.
    """
    try:
        lists = parse_json("\n".join(lines))
    except JSONError as error:
        raise DataError(path, str(error), "the file is cut or damaged", error.line) from error
    if not isinstance(lists, dict) or not isinstance(lists.get(_REFERENCES), list) or len(lists) < 2:
        raise DataError(path, 'no object of lists with one under "ref"', "give models_result.json")
    references = lists[_REFERENCES]
    for name, texts in lists.items():
        if not is_well_formed(name):
            raise DataError(path, f"an unpaired surrogate in the name {name!r}", "no file can store it; take it out")
        if not isinstance(texts, list) or len(texts) != len(references):
            has = f"{len(texts):,} texts" if isinstance(texts, list) else kind_of(texts)
            raise DataError(path, f"{name!r} has {has}, and {_REFERENCES!r} {len(references):,}", "the file is damaged")
        for place, text in enumerate(texts):
            if not isinstance(text, str) or not is_well_formed(text):
                what = "an unpaired surrogate" if isinstance(text, str) else kind_of(text)
                raise DataError(path, f"item {place} of {name!r} is {what}, not a text", "replies must be texts")
    systems = {name: texts for name, texts in lists.items() if name != _REFERENCES}
    return [
        Item(place, {name: texts[place].strip() for name, texts in systems.items()}, reference=reference.strip())
        for place, reference in enumerate(references)
    ]


def is_lists(lines: Sequence[str]) -> bool:
    """Return whether the file is one object with `ref` that is not one of our own lines."""
    start = next(filter(str.strip, lines), "")
    return start.lstrip().startswith("{") and f'"{_REFERENCES}": [' in start


def _objects(path: Path, lines: Sequence[str], hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except JSONError as error:
            raise DataError(path, str(error), hint, number) from error
        if not isinstance(record, dict):
            raise DataError(path, f"expected a JSON object, found {kind_of(record)}", hint, number)
        yield number, record


def _first_object(lines: Sequence[str]) -> dict[str, Any]:
    try:
        record = parse_json(next(filter(str.strip, lines), ""))
    except JSONError:
        return {}
    return record if isinstance(record, dict) else {}


def _text(path: Path, number: int, record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(path, f'"{key}" must be a string, found {kind_of(value)}', "replies are texts", number)
    if not is_well_formed(value):
        raise DataError(path, f'"{key}" holds an unpaired surrogate', "no file can store it; take it out", number)
    return value.strip()


def _texts(path: Path, number: int, record: dict[str, Any], key: str) -> tuple[str, ...]:
    values = record.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) and is_well_formed(value) for value in values):
        raise DataError(path, f'"{key}" must be a list of strings', "without unpaired surrogates", number)
    return tuple(values)
