r"""Inferences made beforehand, kept as JSON lines (plain or gzipped), and found again for a dialogue.

Ours, one object a line; `id`, the dialogue's, may be left out:

    {"id": "a", "event": "I lost my job today.", "inferences": {"xReact": ["sad", "worried"], "xWant": ["a new job"]}}

ComFact's released file (inferences of COMET-BART for the test set of EmpatheticDialogues) is read as it is:

    {"index": 0, "conv_id": "hit:0_conv:0", "last_utterance": "...", "xIntent": [...], ..., "xReact": [...]}
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from localemp.commonsense.relations import RELATIONS, Inferences, paper_event, released_event
from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError


@dataclass(frozen=True, slots=True)
class Entry:
    """What was inferred from one event.

    Attributes:
        event: The text that was asked about: a whole context or a last utterance.
        inferences: Relation to texts, best first; the paper's five relations are always there, if need be empty.
        id: Of the dialogue, where it is known.
        conversation: Id of the conversation that the event comes from; only ComFact's file has it.
    """

    event: str
    inferences: Inferences
    id: str | None = None
    conversation: str | None = None


class KnowledgeStore:
    """Inferences of many events.

    Attributes:
        path: The file.
        digest: SHA-256 of the file's bytes, for the manifest.
    """

    def __init__(self, path: Path, digest: str, entries: Iterable[Entry]) -> None:
        self.path, self.digest = path, digest
        self._by_id: dict[str, Entry] = {}
        self._by_utterance: dict[tuple[str, str], list[Entry]] = {}
        self._by_event: dict[str, Entry] = {}
        for entry in entries:
            event = _normal(entry.event)
            if entry.id is not None:
                self._by_id[entry.id] = entry
            if entry.conversation is not None:
                self._by_utterance.setdefault((entry.conversation, event), []).append(entry)
            self._by_event.setdefault(event, entry)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file in our format or in ComFact's.

        Raises:
            DataError: The file cannot be read or is empty, or a line is no JSON object, has neither `event` nor
                `last_utterance`, a value of the wrong type, none of the paper's relations, or an id that was there.
        """
        entries: list[Entry] = []
        line_of: dict[str, int] = {}
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            try:
                entry = _entry(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(path, f"not JSON: {error.msg} at character {error.colno}", _EXAMPLE, number) from error
            except ValueError as error:
                raise DataError(path, str(error), _EXAMPLE, number) from error
            if entry.id is not None:
                if entry.id in line_of:
                    taken = f"id {entry.id!r} is taken by line {line_of[entry.id]}"
                    raise DataError(path, taken, "keep one line for every dialogue", number)
                line_of[entry.id] = number
            entries.append(entry)
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest(), entries)

    def find(self, dialogue: Dialogue) -> Inferences | None:
        """Inferences for a dialogue, or None.

        Looked up by the dialogue's id; then by conversation and last utterance; then by an event that is the whole
        context, the last utterance, or the last utterance as the released code puts it. Texts are compared without
        regard to case, white space and `"`.
        """
        if dialogue.id in self._by_id:
            return self._by_id[dialogue.id].inferences
        spoken = [_normal(turn) for turn in dialogue.turns[::2]]
        for conversation in dialogue.conversations:
            if entries := self._by_utterance.get((conversation, spoken[-1])):
                # A speaker who says the same again has one entry each time, in the order of the conversation.
                return entries[min(spoken[:-1].count(spoken[-1]), len(entries) - 1)].inferences
        for event in (paper_event(dialogue), dialogue.last_utterance, released_event(dialogue.last_utterance)):
            if entry := self._by_event.get(_normal(event)):
                return entry.inferences
        return None

    def missing(self, dialogues: Iterable[Dialogue]) -> list[Dialogue]:
        """Those dialogues that have no inferences here."""
        return [dialogue for dialogue in dialogues if self.find(dialogue) is None]

    @staticmethod
    def write(path: Path, entries: Iterable[Entry]) -> None:
        """Append entries to a plain JSON lines file in our format; the file is made if it is not there.

        What stood there stays; a last line without its end gets one first. Conversations are not part of the format.

        Raises:
            DataError: The file cannot be written, or is named as a gzip file.
        """
        if path.suffix == ".gz":
            raise DataError(path, "inferences are written to plain files only", "leave out .gz and compress it later")
        try:
            with path.open("a+b") as file:
                if file.tell() and not _ends_line(file):
                    file.write(b"\n")
                for entry in entries:
                    file.write((json.dumps(_record(entry), ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise DataError(path, error.strerror or str(error), "check the path and the disk's room") from error


def _ends_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _record(entry: Entry) -> dict[str, Any]:
    named = {} if entry.id is None else {"id": entry.id}
    return {**named, "event": entry.event, "inferences": dict(entry.inferences)}


_EXAMPLE = 'each line is one JSON object, such as {"event": "I lost my job.", "inferences": {"xReact": ["sad"]}}'
_SURROGATE = re.compile("[\ud800-\udfff]")


def _normal(text: str) -> str:
    return " ".join(text.replace('"', "").split()).lower()


def _entry(record: Any) -> Entry:
    """One line; what is wrong with it is said in a ValueError."""
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object")
    if "event" in record:
        given = record.get("inferences")
        if not isinstance(given, dict):
            raise ValueError('"inferences" must be an object of relations and their texts')
        event = _text(record["event"], '"event"')
        return Entry(event, _inferences(given), id=_optional(record, "id"))
    if "last_utterance" in record:
        given = {key: value for key, value in record.items() if key in RELATIONS or isinstance(value, list)}
        event = _text(record["last_utterance"], '"last_utterance"')
        return Entry(event, _inferences(given), conversation=_optional(record, "conv_id"))
    raise ValueError('neither "event" nor "last_utterance"')


def _inferences(given: dict[str, Any]) -> Inferences:
    if not any(relation in given for relation in RELATIONS):
        raise ValueError(f"none of the relations {', '.join(RELATIONS)}")
    read: dict[str, tuple[str, ...]] = dict.fromkeys(RELATIONS, ())
    for relation, texts in given.items():
        if not isinstance(texts, list):
            raise ValueError(f'"{relation}" must be a list of texts')
        read[relation] = tuple(_nonempty(texts, relation))
    return read


def _nonempty(texts: list[Any], relation: str) -> Iterator[str]:
    for position, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ValueError(f'"{relation}", item {position}, must be a text')
        if text.strip():
            yield _text(text, f'"{relation}", item {position},')


def _optional(record: dict[str, Any], key: str) -> str | None:
    return None if record.get(key) is None else _text(record[key], f'"{key}"')


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a text that is not empty")
    if _SURROGATE.search(value):
        raise ValueError(f"{what} holds half of a surrogate pair, which no file can store")
    return value.strip()
