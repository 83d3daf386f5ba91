"""Strategies by name, and their combinations: `similar+two-stage`.

A strategy consists of parts, and every part has a place. Parts of different places combine.
A new part is one file, and one call of `register_part`: its options appear on the command line, in `RunConfig` and in a
server's requests, its settings in the manifest.
"""

from collections.abc import Mapping
from itertools import combinations

from localemp.errors import OptionError, UnknownNameError
from localemp.prompting.render import Prompts
from localemp.sampling import Sampling
from localemp.strategies.base import Enricher, Flow, Strategy
from localemp.strategies.knowledge import KNOWLEDGE
from localemp.strategies.parts import Part, PartContext, as_part
from localemp.strategies.shots import FEW_SHOT
from localemp.strategies.similar import SIMILAR
from localemp.strategies.two_stage import TWO_STAGE
from localemp.utils.option import Option, unique
from localemp.utils.plugins import check_options, load_plugins, why_missing

PARTS: dict[str, Part] = {}


def register_part(name: str, part: Part) -> None:
    """Register a part of strategies; it combines with all parts of other places.

    Args:
        name: Name of the part: letters, digits and hyphens.
        part: The part.

    Raises:
        OptionError: The name is taken or invalid, or an option has the name of a different option.
    """
    if name in PARTS:
        raise OptionError(f"the part {name!r} already exists")
    if not name.replace("-", "").isalnum():
        raise OptionError(f"{name!r} is not a valid name for a part", "use letters, digits and hyphens")
    unique([*_options(), *part.options])
    PARTS[name] = part


def parts() -> Mapping[str, Part]:
    """Return the parts by name, those of plug-ins included."""
    load_plugins("strategy", _add_plugin)
    return PARTS


def _add_plugin(name: str, value: object) -> None:
    part = as_part(name, value)
    check_options(name, part.options, _options())
    register_part(name, part)


def part_options() -> tuple[Option, ...]:
    """Return the options of all parts, each once."""
    parts()
    return _options()


def _options() -> tuple[Option, ...]:
    return unique(option for part in PARTS.values() for option in part.options)


def parts_with(option: Option) -> list[str]:
    """Return the names of the parts that have an option."""
    return [name for name, part in parts().items() if option in part.options]


ZERO_SHOT = Part(about="task, guideline and dialogue only (section 3.2)", place=None, make=lambda _: None)

register_part("zero-shot", ZERO_SHOT)
register_part("few-shot", FEW_SHOT)
register_part("similar", SIMILAR)
register_part("knowledge", KNOWLEDGE)
register_part("two-stage", TWO_STAGE)


def parse_strategy(text: str) -> tuple[str, ...]:
    """Return the parts of a strategy's name, in the order of `PARTS`, flows last.

    Raises:
        UnknownNameError: A part does not exist; lists the known ones.
        OptionError: Parts exclude each other.
    """
    names, known = text.split("+"), parts()
    for name in names:
        if name not in known:
            why = why_missing("strategy", name)
            raise UnknownNameError("strategy", name, known, "Join them with + (similar+two-stage)", why)
    for name in names:
        others = [other for other in names if other != name and known[other].place == known[name].place]
        if len(names) != len(set(names)) or others or (known[name].place is None and len(names) > 1):
            raise OptionError(
                f"strategy {text!r}: its parts exclude each other",
                _what_combines(),
            )
    return tuple(name for name in _in_order() if name in names)


def _in_order() -> list[str]:
    """Return all parts in the order of canonical names: enrichers, then flows."""
    return sorted(parts(), key=lambda name: PARTS[name].place == "flow")


def _what_combines() -> str:
    """Return one line on which parts combine."""
    places: dict[str | None, list[str]] = {}
    for name, part in parts().items():
        places.setdefault(part.place, []).append(name)
    alone = places.pop(None)
    several = ", ".join(f"one of {' and '.join(names)}" for names in places.values() if len(names) > 1)
    single = " and ".join(name for names in places.values() if len(names) == 1 for name in names)
    return f"use {several}, optionally with {single}; {' and '.join(alone)} combines with nothing"


def all_strategies() -> tuple[str, ...]:
    """Return the canonical names of all strategies, shorter combinations first."""
    names = []
    for size in range(1, len(parts()) + 1):
        for chosen in combinations(_in_order(), size):
            places = {PARTS[name].place for name in chosen}
            if len(places) == size and (size == 1 or None not in places):
                names.append("+".join(chosen))
    return tuple(names)


def build_strategy(
    text: str, prompts: Prompts, sampling: Sampling, context: PartContext, keep_thinking: bool = False
) -> Strategy:
    """Build a strategy by its name.

    Args:
        text: One part, or several joined by "+".
        prompts: The template in the model's layout.
        sampling: Sampling parameters.
        context: What the parts are built from.
        keep_thinking: Whether replies begin with the model's thinking.

    Raises:
        LocalempError: The name is invalid, or a part cannot be built.
    """
    names = parse_strategy(text)
    made = [PARTS[name].make(context) for name in names]
    enrichers = [part for part in made if isinstance(part, Enricher)]
    flows = [part for part in made if isinstance(part, Flow)]
    flow = flows[0] if flows else None
    return Strategy("+".join(names), prompts, sampling, enrichers, flow, keep_thinking=keep_thinking)
