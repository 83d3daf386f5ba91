"""EmpatheticDialogues (Rashkin et al. 2019): reads the official files and builds instances.

The official CSV is no CSV: one row a line, fields between plain commas, a comma inside a text written `_comma_`,
nothing quoted, stray `"` left as people typed them, and further fields at the end of some test rows. `speaker_idx` is
a worker's number, so who speaks follows from the order of `utterance_idx` alone: speaker first, then in turn. Files
that somebody saved again with a CSV library are quoted properly; they are recognised and read as such.
"""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError, UnknownNameError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_FILE_STEMS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "dev", "validation"),
    "test": ("test",),
}
_NEEDED = ("conv_id", "utterance_idx", "context", "prompt", "utterance")
_COLUMNS = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of the data set, as it is in the file.

    Attributes:
        id: The `conv_id`.
        emotion: One of the 32 emotions (the column `context`).
        situation: What the speaker was told to talk about (the column `prompt`).
        turns: What was said, speaker first, alternating; commas restored, nothing else changed.
    """

    id: str
    emotion: str
    situation: str
    turns: tuple[str, ...]


def read_conversations(path: Path) -> list[Conversation]:
    """Conversations of one CSV file, plain or gzipped, in file order; turns in the order of `utterance_idx`.

    Raises:
        DataError: The file cannot be read, has no header or no rows, or a row is not in the official format.
    """
    rows: dict[str, dict[int, list[str]]] = {}
    lines = read_lines(path)
    at = _header(path, lines[0])
    for number, fields in _rows(path, lines, at):
        index = fields[at["utterance_idx"]]
        try:
            turn = int(index)
        except ValueError as error:
            raise DataError(path, f"utterance_idx {index!r} is not a whole number", line=number) from error
        conversation = rows.setdefault(fields[at["conv_id"]], {})
        if turn in conversation:
            raise DataError(path, f"utterance {turn} of {fields[at['conv_id']]} is there twice", line=number)
        conversation[turn] = fields
    if not rows:
        raise DataError(path, "a header and no rows", "give a file with at least one conversation")
    return [_conversation(key, [turns[turn] for turn in sorted(turns)], at) for key, turns in rows.items()]


def clean_instances(conversations: Iterable[Conversation]) -> list[Dialogue]:
    """One dialogue for every listener turn, conversation by conversation.

    The official splits give 40,254 / 5,738 / 5,259. Texts are stripped and otherwise as people wrote them, quotes
    included. What a speaker says after the listener's last turn has no reply and gives no instance. An id is the
    conversation's, `#`, and the number of turns in the context: "hit:0_conv:1#3". A conversation is cut before its
    first empty utterance (the official files have none).
    """
    return [
        instance
        for conversation in conversations
        for instance in _instances([conversation], _spoken(conversation.turns, str.strip), str.strip)
    ]


def published_instances(conversations: Sequence[Conversation]) -> list[Dialogue]:
    """The instances that the paper and its baselines worked on: 40,250 / 5,734 / 5,255 in the official splits.

    Their preprocessing loses the last two conversations of a split, and it starts a new conversation where the
    situation changes, so that neighbours with the same situation become one, under the emotion of the last. Each is
    cut to an even number of turns first; texts are stripped and lose every `"`. The id of such a group joins the ids of
    its conversations with "+"; all other ids are those of `clean_instances`.
    """
    instances = []
    for _, neighbours in groupby(conversations[:-2], key=lambda conversation: _without_quotes(conversation.situation)):
        group = list(neighbours)
        turns: list[str] = []
        for conversation in group:
            spoken = _spoken(conversation.turns, _without_quotes)
            turns += spoken[: len(spoken) // 2 * 2]
        instances += _instances(group, turns, _without_quotes)
    return instances


def complete_dialogues(instances: Iterable[Dialogue]) -> list[Dialogue]:
    """Of every conversation the last instance, whose context and reply together are the complete dialogue.

    Exemplars of the paper are complete dialogues. The order is that of the conversations.
    """
    last: dict[tuple[str, ...], Dialogue] = {}
    for instance in instances:
        last[instance.conversations or (instance.id,)] = instance
    return list(last.values())


def canonical_split(name: str) -> Split:
    """The official name of a split; "dev" and "validation" are "valid".

    Raises:
        UnknownNameError: There is no such split.
    """
    for split, stems in _FILE_STEMS.items():
        if name in stems:
            return split
    raise UnknownNameError("split", name, SPLITS)


def split_file(folder: Path, split: Split) -> Path | None:
    """The file of a split in a folder, such as `test.csv` or `valid.csv.gz`; None where there is none."""
    names = (folder / f"{stem}{suffix}" for stem in _FILE_STEMS[split] for suffix in (".csv", ".csv.gz"))
    return next((path for path in names if path.is_file()), None)


def _header(path: Path, line: str) -> dict[str, int]:
    """Where each column is."""
    names = [name.strip() for name in next(csv.reader([line]), [])]
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise DataError(path, f"the header lacks {', '.join(missing)}", f"the first line must be {_COLUMNS}", line=1)
    return {name: names.index(name) for name in names}


def _rows(path: Path, lines: list[str], at: dict[str, int]) -> Iterable[tuple[int, list[str]]]:
    """Line number and fields of every row."""
    width = 1 + max(at[name] for name in _NEEDED)
    quoted = _is_quoted(lines, len(at))
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        fields = next(csv.reader([line])) if quoted and '"' in line else line.split(",")
        if len(fields) < width:
            raise DataError(path, f"{len(fields)} fields, expected {len(at)}", f"the columns are {_COLUMNS}", number)
        if len(fields) > len(at) and any(
            _is_prose(fields[at[name]]) for name in at.keys() & {"speaker_idx", "selfeval"}
        ):
            raise DataError(path, "a comma inside a text", "write it _comma_, or quote the text as CSV does", number)
        yield number, fields


# A field that a CSV library quoted because it had to: for the comma or the quote (doubled) in it. One of the official
# file that merely starts and ends with a quote is none.
_HAD_TO_QUOTE = r'"(?:[^",]|"")*(?:,|"")(?:[^"]|"")*"'
_QUOTED_WHERE_NEEDED = re.compile(rf'(?:{_HAD_TO_QUOTE}|[^",]*)(?:,(?:{_HAD_TO_QUOTE}|[^",]*))*')
_QUOTED_EVERYWHERE = re.compile(r'(?:"(?:[^"]|"")*"|[^",]*)(?:,(?:"(?:[^"]|"")*"|[^",]*))*')


def _is_quoted(lines: list[str], columns: int) -> bool:
    """Whether a CSV library wrote the file: every line with a quote is properly quoted and gives enough fields."""
    pattern = _QUOTED_EVERYWHERE if '"' in lines[0] else _QUOTED_WHERE_NEEDED
    return all(
        pattern.fullmatch(line) is not None and len(next(csv.reader([line]))) >= columns
        for line in lines
        if '"' in line
    )


def _is_prose(field: str) -> bool:
    """Whether a field of numbers and marks ("5|5|5_2|2|5") holds words instead: a stray comma shifted the columns."""
    return re.search(r"\s[^\W\d]|[^\W\d]\s", field) is not None


def _conversation(key: str, rows: list[list[str]], at: dict[str, int]) -> Conversation:
    def text(row: list[str], column: str) -> str:
        return row[at[column]].replace("_comma_", ",")

    turns = tuple(text(row, "utterance") for row in rows)
    return Conversation(key, text(rows[0], "context").strip(), text(rows[0], "prompt"), turns)


def _without_quotes(text: str) -> str:
    return text.replace('"', "").strip()


def _spoken(turns: Iterable[str], clean: Callable[[str], str]) -> list[str]:
    """The cleaned turns before the first empty one, after which nobody knows who speaks."""
    spoken: list[str] = []
    for turn in map(clean, turns):
        if not turn:
            break
        spoken.append(turn)
    return spoken


def _instances(group: list[Conversation], turns: list[str], clean: Callable[[str], str]) -> list[Dialogue]:
    """One dialogue for every listener turn of a group of conversations, usually of one."""
    ids = tuple(conversation.id for conversation in group)
    emotion, situation = group[-1].emotion or None, clean(group[-1].situation) or None
    return [
        Dialogue(f"{'+'.join(ids)}#{end}", tuple(turns[:end]), emotion, situation, turns[end], ids)
        for end in range(1, len(turns), 2)
    ]
