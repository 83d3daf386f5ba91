"""EmpatheticDialogues (Rashkin et al. 2019): reads its files and builds instances.

`csv_rows.py` reads the rows of a file, `turn_taking.py` says who speaks. What is odd in a file is logged as a warning,
with its lines.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from localemp.data.csv_rows import columns_of, rows_of
from localemp.data.textfile import read_lines
from localemp.data.turn_taking import TurnTaking, Utterance
from localemp.dialogue import Dialogue
from localemp.errors import DataError, UnknownNameError
from localemp.utils.files import is_file
from localemp.utils.text import one_line

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_FILE_STEMS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "dev", "validation"),
    "test": ("test",),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of the data set, as it is in the file.

    Attributes:
        id: The `conv_id`.
        emotion: One of the 32 emotions (the column `context`).
        situation: What the speaker was told to talk about (the column `prompt`).
        turns: What was said, speaker first, alternating; commas restored, and nothing else changed but what
            `turn_taking.py` says.
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
    lines = read_lines(path)
    at = columns_of(path, lines[0])
    about: dict[str, tuple[str, str]] = {}
    said: dict[str, dict[int, Utterance]] = {}

    def text(fields: list[str], column: str) -> str:
        return fields[at[column]].replace("_comma_", ",")

    for number, fields in rows_of(path, lines, at):
        index, key = fields[at["utterance_idx"]], fields[at["conv_id"]]
        try:
            turn = int(index)
        except ValueError as error:
            raise DataError(path, f"utterance_idx {one_line(index)!r} is not a whole number", line=number) from error
        conversation = said.setdefault(key, {})
        if turn in conversation:
            raise DataError(path, f"utterance {turn} of {one_line(key)} is there twice", line=number)
        who = "".join(fields[at["speaker_idx"] : at["speaker_idx"] + 1]).strip() if "speaker_idx" in at else ""
        conversation[turn] = Utterance(number, turn, who, text(fields, "utterance"))
        about.setdefault(key, (text(fields, "context").strip(), text(fields, "prompt")))
    if not said:
        raise DataError(path, "a header and no rows", "give a file with at least one conversation")
    taking = TurnTaking({key: [turns[turn] for turn in sorted(turns)] for key, turns in said.items()})
    conversations = [Conversation(key, *about[key], taking.turns(key)) for key in said]
    for note in taking.notes():
        _log.warning("%s: %s", path, note)
    return conversations


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
    return next((path for path in names if is_file(path)), None)


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
