"""Reads the user's own dialogues: JSON lines, one JSON list of objects, or a Parquet table.

Only `turns` is required; null is the same as a missing key:

    {"id": "a", "turns": ["I lost my job today."], "emotion": "sad", "situation": "...", "reference": "Oh no, why?"}

`conversation` (a string or a list of strings) names the conversations that the turns come from, which are never used
as exemplars. By default a dialogue is its own conversation. `support_strategies` (likewise) are those of the
reference. Other keys are ignored.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from localemp.data.forms import OWN, form_of, unknown_form
from localemp.data.reader import is_file_of
from localemp.data.record_reader import RecordReader
from localemp.data.records import TABLE, read_records
from localemp.dialogue import Dialogue
from localemp.utils.json_reader import kind_of
from localemp.utils.paths import at_home, resource
from localemp.utils.text import is_well_formed

_KEYS = ("turns", "id", "emotion", "situation", "reference", "conversation", "support_strategies")
_EXAMPLE = 'each line is one JSON object, such as {"turns": ["I lost my job today."]}'


class JsonLines(RecordReader):
    """Reads the user's own dialogues, including those that ship with localemp, and says which forms there are."""

    _SHIPPED: ClassVar = {"samples": "samples.jsonl", "bundled": "train.jsonl"}
    names = tuple(_SHIPPED)
    form = OWN

    @classmethod
    def matches(cls, source: str) -> bool:
        """Return whether the source is one that ships with localemp, of this form, or a file of an unknown one."""
        if source in cls.names or super().matches(source):
            return True
        return is_file_of(path := at_home(source), cls.endings) and form_of(path) is None

    @property
    def path(self) -> Path:
        """The file."""
        shipped = self._SHIPPED.get(self.source)
        return at_home(self.source) if shipped is None else resource("prompts", "dialogues", shipped)

    @staticmethod
    def read_files(files: Sequence[Path]) -> list[Dialogue]:
        """Return the dialogues of the files."""
        return [dialogue for path in files for dialogue in read_jsonl(path)]


def read_jsonl(path: Path) -> list[Dialogue]:
    """Read the dialogues of a file, in order; texts are stripped, blank lines skipped.

    A dialogue without `id` is named by its place: "line-1" for the first line.

    Raises:
        DataError: The file cannot be read or has no dialogue, or a record is not a JSON object, has no turns, an empty
            turn or an even number of turns, a value of the wrong type, or an id that an earlier one has.
    """
    unknown = unknown_form(path)
    if unknown is not None and path.suffix == TABLE:
        raise unknown
    dialogues: list[Dialogue] = []
    place_of: dict[str, str] = {}
    for record in read_records(path, _KEYS, _EXAMPLE):
        if unknown is not None:  # now that the first record is known to be whole
            raise unknown
        try:
            dialogue = _dialogue(record.value, f"{record.unit}-{record.number}")
        except _RecordError as error:
            raise record.error(str(error), error.hint) from error
        if dialogue.id in place_of:
            earlier = place_of[dialogue.id]
            raise record.error(f"{earlier} has the same id {dialogue.id!r}", f"give every {record.unit} its own id")
        place_of[dialogue.id] = record.place
        dialogues.append(dialogue)
    return dialogues


class _RecordError(ValueError):
    """An error in one record; the caller adds file and place."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _dialogue(record: dict[str, Any], place: str) -> Dialogue:
    if record.get("turns") is None:
        raise _RecordError('no "turns"', _EXAMPLE)
    turns = _texts(record["turns"], "turns")
    if not turns:
        raise _RecordError('"turns" is an empty list', _EXAMPLE)
    identity = _text(record, "id")
    if identity is None:
        identity = place
    conversations, strategies = (_one_or_more(record, key) for key in ("conversation", "support_strategies"))
    fields = {key: _text(record, key) for key in ("emotion", "situation", "reference")}
    try:
        return Dialogue(
            id=identity,
            turns=turns,
            conversations=conversations or (identity,),
            support_strategies=strategies,
            **fields,
        )
    except ValueError as error:
        moved = 'move the last turn to "reference" or leave it out' if len(turns) % 2 == 0 else "give every turn a text"
        raise _RecordError(str(error), moved) from error


def _text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    return _checked(value, f'"{key}"') or None


def _one_or_more(record: dict[str, Any], key: str) -> tuple[str, ...]:
    value = record.get(key)
    texts = () if value is None else _texts([value] if isinstance(value, str) else value, key)
    return tuple(filter(None, texts))


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise _RecordError(
            f'"{key}" must be a list of strings, found {kind_of(values)}', _EXAMPLE if key == "turns" else ""
        )
    return tuple(_checked(value, f'"{key}", item {position},') for position, value in enumerate(values, 1))


def _checked(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _RecordError(f"{what} must be a string, found {kind_of(value)}")
    if not is_well_formed(value):
        raise _RecordError(f"{what} has an unpaired surrogate, which no file can store")
    return value.strip()
