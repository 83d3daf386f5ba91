"""The relations of ATOMIC (Sap et al. 2019) and ATOMIC 2020 (Hwang et al. 2021) that a COMET can be asked."""

from typing import Literal

# In the paper's order: intent before the event, need before it, want after it, effect on the person, reaction to it.
RELATIONS: tuple[str, ...] = ("xIntent", "xNeed", "xWant", "xEffect", "xReact")

# All of ATOMIC 2020: of persons in an event, of events among themselves, of things.
ATOMIC_2020: tuple[str, ...] = (
    *RELATIONS, "xAttr", "xReason", "oWant", "oEffect", "oReact",
    "isAfter", "isBefore", "HasSubEvent", "HinderedBy", "Causes", "isFilledBy",
    "ObjectUse", "AtLocation", "MadeUpOf", "HasProperty", "CapableOf", "Desires", "NotDesires",
)  # fmt: skip

EventKind = Literal["context", "last-utterance"]
