"""What a reader makes of a file: items in file order, before anybody knows which dialogues they answer."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One dialogue as a file of another system has it.

    Attributes:
        line: Where it begins, from 1; in a file that is one JSON object, the position in its lists.
        replies: The replies by the name of the hypothesis ("Greedy", "Beam"), as far as the file has them.
        id: What the file calls the dialogue; None where it has no names.
        row: The row of the published data that the file says it is, from 0; None where it does not say.
        context: The turns before the reply, lower-cased and tokenised as the system had them.
        reference: What a person replied, in the same form.
        emotion: The label of the data.
        feeling: What the system predicted of it; several labels are in one text, the likeliest first.
    """

    line: int
    replies: Mapping[str, str]
    id: str | None = None
    row: int | None = None
    context: tuple[str, ...] = ()
    reference: str | None = None
    emotion: str | None = None
    feeling: str | None = None
