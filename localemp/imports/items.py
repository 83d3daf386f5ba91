"""Items of an imported file, in file order, before they are matched to dialogues."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One dialogue in a file of another system.

    Attributes:
        line: Its first line, from 1; in a file that is one JSON object, the position in its lists.
        replies: The replies by name of the hypothesis ("Greedy", "Beam"), as far as the file has them.
        id: The dialogue's id in the file; None if there is none.
        row: The row of the published data that the file gives, from 0; None if it gives none.
        context: The turns before the reply, lower-cased and tokenised as the system had them.
        reference: A person's reply, in the same form.
        emotion: The label in the data.
        feeling: The predicted emotion; several labels are in one text, most likely first.
    """

    line: int
    replies: Mapping[str, str]
    id: str | None = None
    row: int | None = None
    context: tuple[str, ...] = ()
    reference: str | None = None
    emotion: str | None = None
    feeling: str | None = None
