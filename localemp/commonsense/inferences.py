"""Inferences of COMET, and the relations that it can be asked about (section 3.3.3)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from localemp.errors import OptionError, UnknownNameError
from localemp.models.atomic import ATOMIC_2020

Inferences = Mapping[str, tuple[str, ...]]
"""Inferences by relation, best first, such as `{"xReact": ("sad", "lonely")}`."""


@dataclass(frozen=True, slots=True)
class Beam:
    """One inference, as a beam of the search.

    Attributes:
        text: The inference, such as "to be alone".
        score: Log probability divided by the length in tokens; None if it was not recorded.
    """

    text: str
    score: float | None = None


Beams = Mapping[str, tuple[Beam, ...]]
"""All beams by relation, best first, before the selection."""


@dataclass(frozen=True, slots=True)
class EventInferences:
    """The inferences of one event.

    Attributes:
        beams: Beams by relation.
        cut: Number of characters at the event's beginning that did not fit the encoder.
    """

    beams: Beams
    cut: int = 0


def check_relations(relations: Iterable[str], trained: Sequence[str] | None = None) -> None:
    """Check that a checkpoint has all of these relations.

    Args:
        relations: The relations.
        trained: Relations that the checkpoint was trained on; None for all of ATOMIC 2020.

    Raises:
        UnknownNameError: ATOMIC 2020 has no such relation.
        OptionError: The checkpoint was not trained on a relation.
    """
    for relation in relations:
        if relation not in ATOMIC_2020:
            raise UnknownNameError("relation", relation, trained or ATOMIC_2020)
        if trained is not None and relation not in trained:
            raise OptionError(
                f"this COMET was not trained on the relation {relation!r}", f"its relations: {', '.join(trained)}"
            )
