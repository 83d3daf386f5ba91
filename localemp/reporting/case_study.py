"""The case study: the replies of all runs to the same dialogue, as data for the page.

Thousands of dialogues with their prompts repeat the same texts; each text is stored once and referred to by number.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from localemp.reporting.systems import Record, System

_TOLD = (
    "prompt_tokens", "completion_tokens", "thinking_tokens", "seconds", "finish_reason", "exemplars_dropped", "answer",
)  # fmt: skip


_Key = tuple[str, tuple[str, ...]]


def case_study(systems: Sequence[System], limit: int | None = None) -> dict[str, Any]:
    """Return systems, texts and dialogues, in the order of the data, and of how many dialogues these are the first.

    Args:
        systems: All systems; those without replies are left out.
        limit: The number of dialogues, from the first; None for all.
    """
    runs = [system for system in systems if system.records]
    texts = _Texts()
    known = _in_order(runs)
    dialogues = {key: _dialogue(record, len(runs), texts) for key, record in known[:limit]}
    without: list[tuple[int, Record]] = []
    for number, system in enumerate(runs):
        for record in system.records:
            if "error" in record:
                without.append((number, record))
            elif (key := _key(record)) in dialogues:
                dialogues[key]["replies"][number] = _reply(record, texts)
    for number, record in without:
        for (name, _), dialogue in dialogues.items():
            if name == record["id"]:
                dialogue["replies"][number] = {"error": texts(record["error"]["message"])}
    return {
        "systems": [system.name for system in runs],
        "texts": texts.all,
        "dialogues": list(dialogues.values()),
        "of": len(known),
    }


def as_script(value: Any) -> Markup:
    """Return JSON that is safe inside a `<script>` element, whatever its texts contain."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text.encode("utf-8", "replace").decode())


def _key(record: Record) -> _Key:
    return record["id"], tuple(record["turns"])  # other data may have the same id


def _in_order(runs: Sequence[System]) -> list[tuple[_Key, Record]]:
    """Return each dialogue with a line that tells it, in the order of the data; one data set after the other."""
    places: dict[_Key, tuple[int, int, Record]] = {}
    sets: list[Any] = []
    for system in runs:
        if (data := system.settings.get("data_sha256")) not in sets:
            sets.append(data)
        for record in system.answered:
            position = record.get("position")  # runs of earlier versions may have none, but an order
            places.setdefault(_key(record), (sets.index(data), len(places) if position is None else position, record))
    return [(key, record) for key, (_, _, record) in sorted(places.items(), key=lambda item: item[1][:2])]


class _Texts:
    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def all(self) -> list[str]:
        return list(self._numbers)


def _dialogue(record: Record, runs: int, texts: _Texts) -> dict[str, Any]:
    known = {name: texts(record[name]) for name in ("situation", "reference") if record.get(name)}
    emotion = {"emotion": record["emotion"]} if record.get("emotion") else {}
    turns = [texts(turn) for turn in record["turns"]]
    return {"id": record["id"], **emotion, **known, "turns": turns, "replies": [None] * runs}


def _reply(record: Record, texts: _Texts) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "text": texts(record["reply"]),
        "stages": [_stage(each, texts) for each in record["stages"]],
    }
    if record.get("exemplars"):
        reply["exemplars"] = [[shown["id"], shown["score"]] for shown in record["exemplars"]]
    if record.get("inferences") is not None:
        reply["inferences"] = record["inferences"]
    return reply


def _stage(stage: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
    messages = [[message["role"], texts(message["content"])] for message in stage["messages"]]
    told = {name: stage[name] for name in _TOLD if stage.get(name) is not None}
    return {"name": stage["name"], "text": texts(stage["text"]), "messages": messages, **told}
