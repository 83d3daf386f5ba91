"""Determines the turns of EmpatheticDialogues' conversations, and reports anomalies of a file.

The speaker begins, then both alternate, in the order of `utterance_idx`; the official files have nothing else. In
filtered or handwritten files:

- Consecutive rows of one person are one turn, joined by a space. `speaker_idx`, a worker's number, identifies people if
  more conversations of the file have two numbers than have more.
- A conversation ends before a third person's words, and at missing rows if it is unknown who continues.
- A conversation without its beginning is skipped, since it is unknown who speaks first: its rows do not begin with the
  number that most conversations of the file begin with.
- A conversation also ends before a blank utterance; building instances does that.

All anomalies are reported with line numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localemp.data.notes import Notes


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a file.

    Attributes:
        line: Line (of a table: row) in the file, from 1.
        index: The `utterance_idx`.
        who: The `speaker_idx` as written; empty if there is none.
        text: The text.
    """

    line: int
    index: int
    who: str
    text: str


@dataclass(slots=True)
class TurnTaking:
    """Builds the turns of one file's conversations, and collects the lines of anomalies.

    Args:
        conversations: All conversations of the file, each ordered by `utterance_idx`.
        notes: Gets the anomalies.
    """

    conversations: Mapping[str, Sequence[Utterance]]
    notes: Notes
    _tells_people: bool = False
    _begins: int | None = None

    def __post_init__(self) -> None:
        every = self.conversations.values()
        people = Counter(len({said.who for said in each if said.who}) for each in every)
        self._tells_people = people[2] > sum(count for number, count in people.items() if number > 2)
        (usual, count), *_ = Counter(each[0].index for each in every).most_common(1)
        self._begins = usual if 2 * count > len(self.conversations) else None

    def turns(self, key: str) -> tuple[str, ...]:
        """Return the turns of a conversation, the speaker's first."""
        said = self.conversations[key]
        if self._begins is not None and said[0].index != self._begins:
            self.notes.add("conversations lack their beginning and are skipped", said[0].line)
            return ()
        turns: list[str] = []
        people: list[str] = []
        for before, now in zip([None, *said], said, strict=False):
            if not now.text.strip():
                self.notes.add("utterances are blank; their conversations end before them", now.line)
            if before is not None and self._same_person(before, now):
                self.notes.add("rows continue the same speaker's turn and are merged with the row before", now.line)
                turns[-1] = f"{turns[-1].rstrip()} {now.text.lstrip()}".strip()
                continue
            if self._tells_people and now.who and now.who not in people:
                people.append(now.who)
            if len(people) > 2:
                self.notes.add("conversations end before the words of a third person", now.line)
                break
            if before is not None and now.index != before.index + 1 and not (self._tells_people and now.who):
                self.notes.add("conversations end where rows are missing", now.line)
                break
            turns.append(now.text)
        return tuple(turns)

    def _same_person(self, before: Utterance, now: Utterance) -> bool:
        return self._tells_people and bool(now.who) and before.who == now.who
