"""Who says what in a conversation of EmpatheticDialogues, and what in a file is not as it should be.

The speaker begins, then both take turns, in the order of `utterance_idx`; the official files have nothing else. In
files that were filtered or written by hand:

- What one person says in several rows in a row is one turn, joined by a space. `speaker_idx`, a worker's number, tells
  it where more conversations of the file have two of them than have more.
- Before the words of a third person, and where rows are missing and nobody can tell who goes on, a conversation ends.
- One that lacks its beginning is left out: nobody knows whose words come first. It lacks it where its rows do not begin
  with the number that most conversations of the file begin with.
- Before a blank utterance it ends, too; building instances sees to that.

Each is told with the lines where it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_NAMED = 5  # lines that are named; all are counted


@dataclass(frozen=True, slots=True)
class Utterance:
    """A row: what was said.

    Attributes:
        line: Of the file, from 1.
        index: Its `utterance_idx`.
        who: The `speaker_idx` as it is written; empty where there is none.
        text: The words.
    """

    line: int
    index: int
    who: str
    text: str


@dataclass(slots=True)
class TurnTaking:
    """Makes turns of the conversations of one file, and keeps the lines where something was odd.

    Args:
        conversations: All of the file, each in the order of `utterance_idx`.
    """

    conversations: Mapping[str, Sequence[Utterance]]
    _tells_people: bool = False
    _begins: int | None = None
    _odd: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        every = self.conversations.values()
        people = Counter(len({said.who for said in each if said.who}) for each in every)
        self._tells_people = people[2] > sum(count for number, count in people.items() if number > 2)
        (usual, count), *_ = Counter(each[0].index for each in every).most_common(1)
        self._begins = usual if 2 * count > len(self.conversations) else None

    def turns(self, key: str) -> tuple[str, ...]:
        """The turns of a conversation, the speaker's first."""
        said = self.conversations[key]
        if self._begins is not None and said[0].index != self._begins:
            self._note("conversations lack their beginning and are left out", said[0])
            return ()
        turns: list[str] = []
        people: list[str] = []
        for before, now in zip([None, *said], said, strict=False):
            if not now.text.strip():
                self._note("utterances are blank: their conversations end before them", now)
            if before is not None and self._same_person(before, now):
                self._note("rows go on with the same speaker: they are one turn with the row before", now)
                turns[-1] = f"{turns[-1].rstrip()} {now.text.lstrip()}".strip()
                continue
            if self._tells_people and now.who and now.who not in people:
                people.append(now.who)
            if len(people) > 2:
                self._note("conversations end before the words of a third person", now)
                break
            if before is not None and now.index != before.index + 1 and not (self._tells_people and now.who):
                self._note("conversations end where rows are missing", now)
                break
            turns.append(now.text)
        return tuple(turns)

    def notes(self) -> Iterator[str]:
        """What was odd, a line each, once all turns were made."""
        for what, lines in self._odd.items():
            named = ", ".join(map(str, lines[:_NAMED])) + (", ..." if len(lines) > _NAMED else "")
            yield f"{len(lines):,} {what} ({'line' if len(lines) == 1 else 'lines'} {named})"

    def _same_person(self, before: Utterance, now: Utterance) -> bool:
        return self._tells_people and bool(now.who) and before.who == now.who

    def _note(self, what: str, said: Utterance) -> None:
        self._odd.setdefault(what, []).append(said.line)
