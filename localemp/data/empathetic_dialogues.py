"""EmpatheticDialogues (Rashkin et al. 2019): reads its files and builds instances.

`csv_rows.py` parses the rows of a file, `turn_taking.py` determines who speaks. Anomalies of a file are logged as
warnings, with line numbers.
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
    """One conversation of the data set, as in the file.

    Attributes:
        id: The `conv_id`.
        emotion: One of the 32 emotions (the column `context`).
        situation: The situation that the speaker was asked to talk about (the column `prompt`).
        turns: Texts of speaker and listener, alternating, speaker first; commas are restored, and turns merged as
            described in `turn_taking.py`.
    """

    id: str
    emotion: str
    situation: str
    turns: tuple[str, ...]


def read_conversations(path: Path) -> list[Conversation]:
    """Read the conversations of a CSV file, plain or gzipped, in file order; turns are ordered by `utterance_idx`.

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
            raise DataError(path, f"utterance {turn} of {one_line(key)} occurs twice", line=number)
        who = "".join(fields[at["speaker_idx"] : at["speaker_idx"] + 1]).strip() if "speaker_idx" in at else ""
        conversation[turn] = Utterance(number, turn, who, text(fields, "utterance"))
        about.setdefault(key, (text(fields, "context").strip(), text(fields, "prompt")))
    if not said:
        raise DataError(path, "the file has a header but no rows", "give a file with at least one conversation")
    taking = TurnTaking({key: [turns[turn] for turn in sorted(turns)] for key, turns in said.items()})
    conversations = [Conversation(key, *about[key], taking.turns(key)) for key in said]
    for note in taking.notes():
        _log.warning("%s: %s", path, note)
    return conversations


def clean_instances(conversations: Iterable[Conversation]) -> list[Dialogue]:
    """Return one dialogue for every listener turn, conversation by conversation.

    The official splits give 40,254 / 5,738 / 5,259. Texts are stripped but otherwise unchanged, including quotes. A
    speaker's turn after the listener's last one has no reply and gives no instance. An id is the conversation's id,
    `#`, and the number of turns in the context: "hit:0_conv:1#3". A conversation ends before its first empty utterance
    (the official files have none).
    """
    return [
        instance
        for conversation in conversations
        for instance in _instances([conversation], _spoken(conversation.turns, str.strip), str.strip)
    ]


def published_instances(conversations: Sequence[Conversation]) -> list[Dialogue]:
    """Return the instances that the paper and its baselines used: 40,250 / 5,734 / 5,255 in the official splits.

    Their preprocessing loses the last two conversations of a split, and starts a new conversation only when the
    situation changes, so that neighbours with the same situation are merged, with the emotion of the last. Each one is
    first cut to an even number of turns; texts are stripped and lose every `"`. The id of a merged group joins the ids
    of its conversations with "+"; all other ids are those of `clean_instances`.
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
    """Return the last instance of every conversation, whose context and reply are the complete dialogue.

    The paper's exemplars are complete dialogues. The order is that of the conversations.
    """
    last: dict[tuple[str, ...], Dialogue] = {}
    for instance in instances:
        last[instance.conversations or (instance.id,)] = instance
    return list(last.values())


def canonical_split(name: str) -> Split:
    """Return the official name of a split; "dev" and "validation" become "valid".

    Raises:
        UnknownNameError: The split does not exist.
    """
    for split, stems in _FILE_STEMS.items():
        if name in stems:
            return split
    raise UnknownNameError("split", name, SPLITS)


def split_file(folder: Path, split: Split) -> Path | None:
    """Return the file of a split in a folder, such as `test.csv` or `valid.csv.gz`; None if there is none."""
    names = (folder / f"{stem}{suffix}" for stem in _FILE_STEMS[split] for suffix in (".csv", ".csv.gz"))
    return next((path for path in names if is_file(path)), None)


def _without_quotes(text: str) -> str:
    return text.replace('"', "").strip()


def _spoken(turns: Iterable[str], clean: Callable[[str], str]) -> list[str]:
    """Return the cleaned turns before the first empty one, after which it is unknown who speaks."""
    spoken: list[str] = []
    for turn in map(clean, turns):
        if not turn:
            break
        spoken.append(turn)
    return spoken


def _instances(group: list[Conversation], turns: list[str], clean: Callable[[str], str]) -> list[Dialogue]:
    """Return one dialogue for every listener turn of a group of conversations, usually a single one."""
    ids = tuple(conversation.id for conversation in group)
    emotion, situation = group[-1].emotion or None, clean(group[-1].situation) or None
    return [
        Dialogue(f"{'+'.join(ids)}#{end}", tuple(turns[:end]), emotion, situation, turns[end], ids)
        for end in range(1, len(turns), 2)
    ]
