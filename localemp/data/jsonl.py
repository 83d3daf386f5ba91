"""Reads the user's own dialogues: JSON lines, plain or gzipped.

One object per line. Only `turns` is required; null is the same as a missing key:

    {"id": "a", "turns": ["I lost my job today."], "emotion": "sad", "situation": "...", "reference": "Oh no, why?"}

`conversation` (a string or a list of strings) names the conversations that the turns come from, which are never used
as exemplars. By default a dialogue is its own conversation. `support_strategies` (likewise) are those of the
reference. Other keys are ignored.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from localemp.data.conversations import Instances
from localemp.data.reader import Reader
from localemp.data.splits import Split
from localemp.data.stats import Stats
from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.json_reader import JSONError, kind_of, parse_json
from localemp.utils.paths import at_home, resource
from localemp.utils.text import is_well_formed

_EXAMPLE = 'each line is one JSON object, such as {"turns": ["I lost my job today."]}'


class JsonLines(Reader):
    """Reads JSON lines, including the dialogues that ship with localemp."""

    _SHIPPED: ClassVar = {"samples": "samples.jsonl", "bundled": "train.jsonl"}
    names = tuple(_SHIPPED)
    endings = (".jsonl", ".json")

    @property
    def path(self) -> Path:
        """The file."""
        shipped = self._SHIPPED.get(self.source)
        return at_home(self.source) if shipped is None else resource("prompts", "dialogues", shipped)

    def read(self, split: Split, instances: Instances) -> list[Dialogue]:
        """Return the dialogues of the file, whatever the split."""
        return read_jsonl(self.path)

    def count(self, splits: Sequence[Split], instances: Instances) -> dict[str, Stats]:
        """Return the statistics of the file, under its name."""
        return {self.path.name: Stats.of_dialogues(read_jsonl(self.path))}


def read_jsonl(path: Path) -> list[Dialogue]:
    """Read the dialogues of a JSON lines file, in file order; texts are stripped, blank lines skipped.

    A dialogue without `id` is named by its line: "line-1" for the first.

    Raises:
        DataError: The file cannot be read or has no dialogue, or a line is not a JSON object, has no turns, an empty
            turn or an even number of turns, a value of the wrong type, or an id that an earlier line has.
    """
    dialogues: list[Dialogue] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            dialogue = _dialogue(parse_json(line), number)
        except JSONError as error:
            raise DataError(path, str(error), _EXAMPLE, number) from error
        except _LineError as error:
            raise DataError(path, str(error), error.hint, number) from error
        if dialogue.id in line_of:
            earlier = line_of[dialogue.id]
            raise DataError(
                path, f"line {earlier} has the same id {dialogue.id!r}", "give every line its own id", number
            )
        line_of[dialogue.id] = number
        dialogues.append(dialogue)
    return dialogues


class _LineError(ValueError):
    """An error in one line; the caller adds file and line number."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _dialogue(record: Any, number: int) -> Dialogue:
    if not isinstance(record, dict):
        raise _LineError(f"expected a JSON object, found {kind_of(record)}", _EXAMPLE)
    if record.get("turns") is None:
        raise _LineError('no "turns"', _EXAMPLE)
    turns = _texts(record["turns"], "turns")
    if not turns:
        raise _LineError('"turns" is an empty list', _EXAMPLE)
    identity = _text(record, "id")
    if identity is None:
        identity = f"line-{number}"
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
        raise _LineError(str(error), moved) from error


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
        raise _LineError(
            f'"{key}" must be a list of strings, found {kind_of(values)}', _EXAMPLE if key == "turns" else ""
        )
    return tuple(_checked(value, f'"{key}", item {position},') for position, value in enumerate(values, 1))


def _checked(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _LineError(f"{what} must be a string, found {kind_of(value)}")
    if not is_well_formed(value):
        raise _LineError(f"{what} has an unpaired surrogate, which no file can store")
    return value.strip()
