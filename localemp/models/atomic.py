"""The relations of ATOMIC (Sap et al. 2019) and ATOMIC 2020 (Hwang et al. 2021) that a COMET model can answer."""

from typing import Literal

# In the paper's order: intent and need before the event; want, effect and reaction after it.
RELATIONS: tuple[str, ...] = ("xIntent", "xNeed", "xWant", "xEffect", "xReact")

# All of ATOMIC 2020: people in an event, relations between events, physical objects.
ATOMIC_2020: tuple[str, ...] = (
    *RELATIONS, "xAttr", "xReason", "oWant", "oEffect", "oReact",
    "isAfter", "isBefore", "HasSubEvent", "HinderedBy", "Causes", "isFilledBy",
    "ObjectUse", "AtLocation", "MadeUpOf", "HasProperty", "CapableOf", "Desires", "NotDesires",
)  # fmt: skip

EventKind = Literal["context", "last-utterance"]
