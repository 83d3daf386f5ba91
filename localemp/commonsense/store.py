r"""Inferences made beforehand, kept as JSON lines (plain or gzipped), and found again for a dialogue.

Ours, one object a line; `id`, the dialogue's, may be left out:

    {"id": "a", "event": "I lost my job today.", "inferences": {"xReact": [["sad", -0.41], ["worried", -0.73]]}}

An inference is a text, or a text and its beam's score. `"cut": 12` says that COMET did not see the event's first 12
characters. A file of `localemp knowledge build` begins with a line that says what it was made with and from:

    {"knowledge": {"comet": "comet-bart", "comet_sha256": "...", "event": "context", "data_sha256": "...", ...}}

ComFact's released file (inferences of COMET-BART for the test set of EmpatheticDialogues) is read as it is:

    {"index": 0, "conv_id": "hit:0_conv:0", "last_utterance": "...", "xIntent": [...], ..., "xReact": [...]}
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from localemp.commonsense.relations import Beam, Beams, paper_event, released_event
from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.models.atomic import RELATIONS
from localemp.utils.config_diff import compare_settings
from localemp.utils.json_reader import parse_json
from localemp.utils.text import is_well_formed


@dataclass(frozen=True, slots=True)
class Entry:
    """What was inferred from one event.

    Attributes:
        event: The text that was asked about: a whole context or a last utterance.
        inferences: Relation to beams, best first; the paper's five relations are always there, if need be empty.
        id: Of the dialogue, where it is known.
        conversation: Id of the conversation that the event comes from; only ComFact's file has it.
        cut: Characters of the event's beginning that COMET did not see.
    """

    event: str
    inferences: Beams
    id: str | None = None
    conversation: str | None = None
    cut: int = 0


class KnowledgeStore:
    """Inferences of many events.

    Attributes:
        path: The file.
        digest: SHA-256 of the file's bytes, for the manifest.
        header: What it was made with and from; None where the file does not say.
    """

    def __init__(
        self, path: Path, digest: str, entries: Iterable[Entry], header: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.digest, self.header = path, digest, header
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
            DataError: The file cannot be read or holds no inferences, or a line is no JSON object, has neither `event`
                nor `last_utterance`, a value of the wrong type, none of the paper's relations, or an id that was there.
        """
        entries: list[Entry] = []
        header: Mapping[str, Any] | None = None
        taken: dict[str, int] = {}
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
                if header is None and not entries and (header := header_of(record)) is not None:
                    continue
                entry = _entry(record)
            except ValueError as error:  # a JSONError is one, too
                raise DataError(path, str(error), _EXAMPLE, number) from error
            if entry.id is not None:
                if entry.id in taken:
                    earlier = f"id {entry.id!r} is taken by line {taken[entry.id]}"
                    raise DataError(path, earlier, "keep one line for every dialogue", number)
                taken[entry.id] = number
            entries.append(entry)
        if not entries:
            raise DataError(path, "there are no inferences in it", "`localemp knowledge build` makes them")
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest(), entries, header)

    def find(self, dialogue: Dialogue) -> Beams | None:
        """Inferences for a dialogue, or None.

        Looked up by the dialogue's id; then by conversation and last utterance; then by an event that is the whole
        context, the last utterance, or the last utterance as the released code puts it. Texts are compared without
        regard to case, white space and `"`. In a file with a header an id is not enough, the event must be the
        dialogue's, too: other data may have an id such as "line-1" as well.
        """
        events = (paper_event(dialogue), dialogue.last_utterance, released_event(dialogue.last_utterance))
        named = self._by_id.get(dialogue.id)
        if named and (self.header is None or _normal(named.event) in map(_normal, events)):
            return named.inferences
        spoken = [_normal(turn) for turn in dialogue.turns[::2]]
        for conversation in dialogue.conversations:
            if entries := self._by_utterance.get((conversation, spoken[-1])):
                # A speaker who says the same again has one entry each time, in the order of the conversation.
                return entries[min(spoken[:-1].count(spoken[-1]), len(entries) - 1)].inferences
        for event in events:
            if entry := self._by_event.get(_normal(event)):
                return entry.inferences
        return None

    def check_settings(self, asked: Mapping[str, Any]) -> None:
        """See that the file was made as it is asked for, as far as it says how.

        Args:
            asked: The event ("context" or "last-utterance") and, where there is one, the settings of a COMET.

        Raises:
            DataError: It was made with another checkpoint, decoding or event; the differences are named.
        """
        made = {name: value for name, value in (self.header or {}).items() if name in asked and name != "comet"}
        if difference := compare_settings(made, {name: asked[name] for name in made}, "in the file"):
            shown = "\n".join(f"  {one}" for one in difference)
            raise DataError(
                self.path,
                f"these inferences were made with other settings:\n{shown}",
                "make a file with the settings of now (`localemp knowledge build`), or repeat those of the file",
            )


def header_of(record: Any) -> Mapping[str, Any] | None:
    """What a file was made with and from, where this line says it.

    Raises:
        ValueError: It does, but in letters that nobody can write.
    """
    header = record.get("knowledge") if isinstance(record, dict) else None
    if not isinstance(header, dict):
        return None
    if not is_well_formed(json.dumps(header, ensure_ascii=False)):
        raise ValueError(f'"knowledge" holds {_HALF}')
    return header


def line_of(entry: Entry) -> bytes:
    """An entry as a line of our format; conversations are no part of it."""
    record: dict[str, Any] = {} if entry.id is None else {"id": entry.id}
    record["event"] = entry.event
    if entry.cut:
        record["cut"] = entry.cut
    record["inferences"] = {
        relation: [beam.text if beam.score is None else [beam.text, beam.score] for beam in beams]
        for relation, beams in entry.inferences.items()
    }
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


_HALF = "an unpaired surrogate, which no file can store"
_EXAMPLE = 'each line is one JSON object, such as {"event": "I lost my job.", "inferences": {"xReact": ["sad"]}}'


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
        cut = record.get("cut", 0)
        if type(cut) is not int or cut < 0:
            raise ValueError('"cut" must be a number of characters')
        return Entry(event, _inferences(given), id=_optional(record, "id"), cut=cut)
    if "last_utterance" in record:
        given = {key: value for key, value in record.items() if key in RELATIONS or isinstance(value, list)}
        event = _text(record["last_utterance"], '"last_utterance"')
        return Entry(event, _inferences(given), conversation=_optional(record, "conv_id"))
    raise ValueError('neither "event" nor "last_utterance"')


def _inferences(given: dict[str, Any]) -> Beams:
    if not any(relation in given for relation in RELATIONS):
        raise ValueError(f"none of the relations {', '.join(RELATIONS)}")
    read: dict[str, tuple[Beam, ...]] = dict.fromkeys(RELATIONS, ())
    for relation, items in given.items():
        if not is_well_formed(relation):
            raise ValueError(f"the relation {relation!r} holds {_HALF}")
        if not isinstance(items, list):
            raise ValueError(f'"{relation}" must be a list of texts')
        read[relation] = tuple(_beams(items, relation))
    return read


def _beams(items: list[Any], relation: str) -> Iterator[Beam]:
    for position, item in enumerate(items, 1):
        text, score = item if isinstance(item, list) and len(item) == 2 else (item, None)
        if not isinstance(text, str) or not (score is None or _is_number(score)):
            raise ValueError(f'"{relation}", item {position}, must be a text, or a text and a number')
        if text.strip():
            yield Beam(_text(text, f'"{relation}", item {position},'), None if score is None else float(score))


def _is_number(score: Any) -> bool:
    """Whether a score can be computed with: neither true nor NaN, infinite, or beyond all floats."""
    if isinstance(score, bool) or not isinstance(score, int | float):
        return False
    return abs(score) <= sys.float_info.max


def _optional(record: dict[str, Any], key: str) -> str | None:
    return None if record.get(key) is None else _text(record[key], f'"{key}"')


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a text that is not empty")
    if not is_well_formed(value):
        raise ValueError(f"{what} holds {_HALF}")
    return value.strip()
