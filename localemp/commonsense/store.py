r"""Precomputed inferences in JSON lines (plain or gzipped), and their lookup for a dialogue.

localemp's format has one object per line; `id`, the dialogue's id, is optional:

    {"id": "a", "event": "I lost my job today.", "inferences": {"xReact": [["sad", -0.41], ["worried", -0.73]]}}

An inference is a text, or a text with its beam's score. `"cut": 12` means that COMET did not see the event's first 12
characters. A file of `localemp knowledge build` begins with a line that records its settings and data:

    {"knowledge": {"comet": "comet-bart", "comet_sha256": "...", "event": "context", "data_sha256": "...", ...}}

ComFact's released file (inferences of COMET-BART for the test set of EmpatheticDialogues) is also supported:

    {"index": 0, "conv_id": "hit:0_conv:0", "last_utterance": "...", "xIntent": [...], ..., "xReact": [...]}
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from localemp.commonsense.events import paper_event, released_event
from localemp.commonsense.inferences import Beam, Beams
from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.models.atomic import RELATIONS
from localemp.models.checksums import sha256_file
from localemp.utils.config_diff import compare_settings
from localemp.utils.json_reader import parse_json
from localemp.utils.text import is_well_formed


@dataclass(frozen=True, slots=True)
class Entry:
    """The inferences of one event.

    Attributes:
        event: The event: a whole context or a last utterance.
        inferences: Beams by relation, best first; the paper's five relations are always present, possibly empty.
        id: Id of the dialogue, if known.
        conversation: Id of the conversation that the event comes from; only in ComFact's file.
        cut: Number of characters at the event's beginning that COMET did not see.
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
        digest: SHA-256 of the file, for the manifest.
        header: Settings and data of the file; None if it does not record them.
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
        """Read a file in localemp's or ComFact's format.

        Raises:
            DataError: The file cannot be read or has no inferences, or a line is not a JSON object, has neither `event`
                nor `last_utterance`, a value of the wrong type, none of the paper's relations, or a duplicate id.
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
                    earlier = f"line {taken[entry.id]} has the same id {entry.id!r}"
                    raise DataError(path, earlier, "keep one line for every dialogue", number)
                taken[entry.id] = number
            entries.append(entry)
        if not entries:
            raise DataError(path, "the file has no inferences", "run `localemp knowledge build` to create it")
        return cls(path, sha256_file(path), entries, header)

    def find(self, dialogue: Dialogue) -> Beams | None:
        """Return the inferences for a dialogue, or None.

        They are looked up by the dialogue's id; then by conversation and last utterance; then by an event that is the
        whole context, the last utterance, or the last utterance in the form of the released code. Texts are compared
        without case, white space and `"`. In a file with a header, the id alone is not enough and the event must match,
        too: other data may also have an id such as "line-1".
        """
        events = (paper_event(dialogue), dialogue.last_utterance, released_event(dialogue.last_utterance))
        named = self._by_id.get(dialogue.id)
        if named and (self.header is None or _normal(named.event) in map(_normal, events)):
            return named.inferences
        spoken = [_normal(turn) for turn in dialogue.turns[::2]]
        for conversation in dialogue.conversations:
            if entries := self._by_utterance.get((conversation, spoken[-1])):
                # A speaker who repeats an utterance has one entry for each time, in order.
                return entries[min(spoken[:-1].count(spoken[-1]), len(entries) - 1)].inferences
        for event in events:
            if entry := self._by_event.get(_normal(event)):
                return entry.inferences
        return None

    def check_settings(self, asked: Mapping[str, Any]) -> None:
        """Check that the file was made with the requested settings, as far as it records them.

        Args:
            asked: The event ("context" or "last-utterance") and, if there is one, the settings of a COMET.

        Raises:
            DataError: The checkpoint, decoding or event differs; lists the differences.
        """
        made = {name: value for name, value in (self.header or {}).items() if name in asked and name != "comet"}
        if difference := compare_settings(made, {name: asked[name] for name in made}, "in the file"):
            shown = "\n".join(f"  {one}" for one in difference)
            raise DataError(
                self.path,
                f"these inferences were made with other settings:\n{shown}",
                "make a new file (`localemp knowledge build`), or use the settings of this one",
            )


def header_of(record: Any) -> Mapping[str, Any] | None:
    """Return the header of a file, if this line is one.

    Raises:
        ValueError: The header has an unpaired surrogate.
    """
    header = record.get("knowledge") if isinstance(record, dict) else None
    if not isinstance(header, dict):
        return None
    if not is_well_formed(json.dumps(header, ensure_ascii=False)):
        raise ValueError(f'"knowledge" has {_HALF}')
    return header


def line_of(entry: Entry) -> bytes:
    """Return an entry as a line in localemp's format, which has no conversations."""
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
    """Parse one line; raises ValueError if it is invalid."""
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object")
    if "event" in record:
        given = record.get("inferences")
        if not isinstance(given, dict):
            raise ValueError('"inferences" must be an object of relations and lists of texts')
        event = _text(record["event"], '"event"')
        cut = record.get("cut", 0)
        if type(cut) is not int or cut < 0:
            raise ValueError('"cut" must be a number of characters')
        return Entry(event, _inferences(given), id=_optional(record, "id"), cut=cut)
    if "last_utterance" in record:
        given = {key: value for key, value in record.items() if key in RELATIONS or isinstance(value, list)}
        event = _text(record["last_utterance"], '"last_utterance"')
        return Entry(event, _inferences(given), conversation=_optional(record, "conv_id"))
    raise ValueError('it has neither "event" nor "last_utterance"')


def _inferences(given: dict[str, Any]) -> Beams:
    if not any(relation in given for relation in RELATIONS):
        raise ValueError(f"it has none of the relations {', '.join(RELATIONS)}")
    read: dict[str, tuple[Beam, ...]] = dict.fromkeys(RELATIONS, ())
    for relation, items in given.items():
        if not is_well_formed(relation):
            raise ValueError(f"the relation {relation!r} has {_HALF}")
        if not isinstance(items, list):
            raise ValueError(f'"{relation}" must be a list of strings')
        read[relation] = tuple(_beams(items, relation))
    return read


def _beams(items: list[Any], relation: str) -> Iterator[Beam]:
    for position, item in enumerate(items, 1):
        text, score = item if isinstance(item, list) and len(item) == 2 else (item, None)
        if not isinstance(text, str) or not (score is None or _is_number(score)):
            raise ValueError(f'"{relation}", item {position}, must be a string, or a string and a number')
        if text.strip():
            yield Beam(_text(text, f'"{relation}", item {position},'), None if score is None else float(score))


def _is_number(score: Any) -> bool:
    """Return whether a score is a finite number that fits a float."""
    if isinstance(score, bool) or not isinstance(score, int | float):
        return False
    return abs(score) <= sys.float_info.max


def _optional(record: dict[str, Any], key: str) -> str | None:
    return None if record.get(key) is None else _text(record[key], f'"{key}"')


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a non-empty string")
    if not is_well_formed(value):
        raise ValueError(f"{what} has {_HALF}")
    return value.strip()
