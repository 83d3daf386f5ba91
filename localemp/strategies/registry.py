"""The strategies by name, and how names combine: `similar+two-stage`.

A strategy is made of parts, and every part has a place. Parts of different places combine, two of the same do not.
A new strategy is one file and one line in `PARTS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

from localemp.errors import OptionError, UnknownNameError
from localemp.prompting.render import Prompts
from localemp.sampling import Sampling
from localemp.strategies.base import Enricher, Flow, Strategy
from localemp.strategies.knowledge import Knowledge
from localemp.strategies.shots import FewShot
from localemp.strategies.similar import Similar
from localemp.strategies.two_stage import TwoStage

Place = Literal["exemplars", "knowledge", "flow"]


class Supplies(Protocol):
    """What parts are made from; each is made only when a part asks for it."""

    def few_shot(self) -> FewShot:
        """Exemplars that are the same for every dialogue."""
        ...

    def similar(self) -> Similar:
        """A retriever over the pool."""
        ...

    def knowledge(self) -> Knowledge:
        """Inferences from a file or a COMET."""
        ...

    def two_stage(self) -> TwoStage:
        """The two calls, with what is given."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A named part of a strategy.

    Attributes:
        place: Parts of the same place exclude each other; None stands alone.
        about: One line for `--help`.
        make: From the supplies, the part.
    """

    place: Place | None
    about: str
    make: Callable[[Supplies], Enricher | Flow | None]


PARTS: dict[str, Part] = {
    "zero-shot": Part(None, "task, guideline and dialogue only (section 3.2)", lambda _: None),
    "few-shot": Part("exemplars", "the same exemplars for every dialogue (section 3.2)", lambda s: s.few_shot()),
    "similar": Part("exemplars", "exemplars of similar meaning (section 3.3.1)", lambda s: s.similar()),
    "knowledge": Part("knowledge", "commonsense inferences added (section 3.3.3)", lambda s: s.knowledge()),
    "two-stage": Part("flow", "feeling and situation first, then the reply (section 3.3.2)", lambda s: s.two_stage()),
}


def parse_strategy(text: str) -> tuple[str, ...]:
    """The parts of a strategy's name, in the order of `PARTS`.

    Raises:
        UnknownNameError: A part that does not exist; the known ones are listed.
        OptionError: Parts that exclude each other.
    """
    names = text.split("+")
    for name in names:
        if name not in PARTS:
            raise UnknownNameError("strategy", name, PARTS, "Join them with + (similar+two-stage)")
    for name in names:
        others = [other for other in names if other != name and PARTS[other].place == PARTS[name].place]
        if len(names) != len(set(names)) or others or (PARTS[name].place is None and len(names) > 1):
            raise OptionError(
                f"strategy {text!r}: its parts exclude each other",
                "one of few-shot and similar, with knowledge and two-stage as you like; zero-shot stands alone",
            )
    return tuple(name for name in PARTS if name in names)


def all_strategies() -> tuple[str, ...]:
    """The canonical names of all strategies: single parts first, then ever longer combinations."""
    names = []
    for size in range(1, len(PARTS) + 1):
        for parts in combinations(PARTS, size):
            places = {PARTS[part].place for part in parts}
            if len(places) == size and (size == 1 or None not in places):
                names.append("+".join(parts))
    return tuple(names)


def build_strategy(
    text: str, prompts: Prompts, sampling: Sampling, supplies: Supplies, keep_thinking: bool = False
) -> Strategy:
    """A strategy by its name.

    Args:
        text: One name, or several joined by "+".
        prompts: The template in the model's layout.
        sampling: How replies are drawn.
        supplies: Where parts come from.
        keep_thinking: Whether replies begin with what the model thought.

    Raises:
        LocalempError: The name is wrong, or a part cannot be made.
    """
    names = parse_strategy(text)
    parts = [PARTS[name].make(supplies) for name in names]
    enrichers = [part for part in parts if isinstance(part, Enricher)]
    flows = [part for part in parts if isinstance(part, Flow)]
    return Strategy("+".join(names), prompts, sampling, enrichers, flows[0] if flows else None, keep_thinking)
