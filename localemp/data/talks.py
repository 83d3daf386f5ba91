"""Builds dialogues from talks whose turns say who speaks: ESConv, ShareGPT and OpenAI messages.

A dialogue begins and ends with the speaker: what the listener says first is left out, and consecutive turns of one side
are one turn. Every reply of the listener gives one dialogue, with everything before as its turns.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from localemp.data.notes import Notes
from localemp.data.records import Record
from localemp.dialogue import Dialogue
from localemp.errors import DataError

MOST_TURNS, MOST_TURNS_IN_ALL = 1_000, 20_000_000
"""Most turns of a talk, and of all dialogues together: their number grows with the square of a talk's length."""

_log = logging.getLogger(__name__)


class Said(NamedTuple):
    """What one side says at once.

    Attributes:
        listener: Whether the listener says it; otherwise the speaker.
        text: The text, without white space around it.
        strategies: Its support strategies.
    """

    listener: bool
    text: str
    strategies: tuple[str, ...] = ()


class Talk(NamedTuple):
    """One talk of a file.

    Attributes:
        record: Where it is.
        id: Its id in the data; None if there is none.
        said: Everything that was said, in order; blank texts do not count.
        emotion: The speaker's emotion, if known.
        situation: The situation, if known.
    """

    record: Record
    id: str | None
    said: Sequence[Said]
    emotion: str | None = None
    situation: str | None = None


class Talks:
    """Collects the dialogues of one data set's talks, and the anomalies of its files.

    Args:
        path: Its first file, for errors.
        joint: What joins consecutive turns of one side.
        awaits: Whether a talk that ends with the speaker is one dialogue that awaits a reply, and nothing else.
            Otherwise its last turn has no reply and gives none.
    """

    def __init__(self, path: Path, joint: str = " ", awaits: bool = False) -> None:
        self.dialogues: list[Dialogue] = []
        self._notes: dict[Path, Notes] = {}
        self._path, self._joint, self._awaits = path, joint, awaits
        self._ids: set[str] = set()
        self._turns = 0

    def add(self, talk: Talk, whole: bool = True) -> tuple[int, int]:
        """Add the dialogues of a talk.

        Args:
            talk: The talk.
            whole: Whether the talk is here as the data has it; if not, a last turn of the speaker awaits nothing.

        Returns:
            How many of the listener's texts at the beginning were left out, and how many texts were joined with
            another.

        Raises:
            DataError: The dialogues of the file have too many turns.
        """
        record = talk.record
        spoken = [said for said in talk.said if said.text]
        begins = next((at for at, said in enumerate(spoken) if not said.listener), len(spoken))
        turns = _alternating(spoken[begins:], self._joint)
        joined = len(spoken) - begins - len(turns)
        if len(turns) > MOST_TURNS:
            self.note(f"talks have more than {MOST_TURNS:,} turns; the rest is left out", record)
            turns, whole = turns[:MOST_TURNS], False
        if len(turns) < 2 and not (turns and self._awaits and whole):
            self.note("talks have no reply to a speaker and give no dialogue", record)
            return begins, joined
        waits = self._awaits and whole and not turns[-1].listener
        ends = [len(turns)] if waits else range(1, len(turns), 2)
        self._turns += sum(ends)
        if self._turns > MOST_TURNS_IN_ALL:
            message = f"its dialogues have more than {MOST_TURNS_IN_ALL:,} turns in all"
            raise DataError(self._path, message, "give a part of the file")
        name, known = self._name(talk), (talk.id or self._named(record),)
        texts = tuple(said.text for said in turns)
        for end in ends:
            reply = turns[end] if end < len(turns) else None
            self.dialogues.append(
                Dialogue(
                    f"{name}#{end}",
                    texts[:end],
                    talk.emotion or None,
                    talk.situation or None,
                    reply.text if reply else None,
                    known,
                    reply.strategies if reply else (),
                )
            )
        return begins, joined

    def note(self, what: str, record: Record) -> None:
        """Count an anomaly of a record's file: "talks have a blank text"."""
        self._notes.setdefault(record.path, Notes(record.unit)).add(what, record.number)

    def done(self) -> list[Dialogue]:
        """Log the anomalies, and return all dialogues.

        Raises:
            DataError: There is none.
        """
        for path, notes in self._notes.items():
            for note in notes:
                _log.warning("%s: %s", path, note)
        if not self.dialogues:
            raise DataError(self._path, "no talk has a reply to a speaker", "is this the right file?")
        return self.dialogues

    def _name(self, talk: Talk) -> str:
        """Return a name that no other talk of the file has."""
        name = talk.id or self._named(talk.record)
        if name in self._ids:
            self.note("talks have the id of an earlier one; the place is added to theirs", talk.record)
            name = f"{name}@{self._named(talk.record)}"
        self._ids.add(name)
        return name

    @staticmethod
    def _named(record: Record) -> str:
        """Return the name of a talk without an id: file and place, such as "ESConv:12"."""
        return f"{record.path.name.partition('.')[0]}:{record.number}"


def _alternating(spoken: Sequence[Said], joint: str) -> list[Said]:
    """Join consecutive texts of one side; a strategy that occurs twice in a turn is named once."""
    turns: list[list[Said]] = []
    for said in spoken:
        if turns and turns[-1][0].listener == said.listener:
            turns[-1].append(said)
        else:
            turns.append([said])
    return [
        Said(
            turn[0].listener,
            joint.join(said.text for said in turn),
            tuple(dict.fromkeys(strategy for said in turn for strategy in said.strategies)),
        )
        for turn in turns
    ]
