"""Strategies by name, and their combinations: `similar+two-stage`, `similar+./mine.toml`.

A strategy consists of parts, and every part has a place. Parts of different places combine.
A part is registered by name, or is the user's own: a flow, by the path of its file, or code, by its file or module. A
new part is one file, and one call of `register_part`: its options appear on the command line, in `RunConfig` and in a
server's requests, its settings in the manifest.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Literal

from localemp.errors import OptionError, PromptError, UnknownNameError
from localemp.prompting.flow_files import bundled_flows
from localemp.prompting.render import Prompts
from localemp.sampling import Sampling
from localemp.strategies.base import Enricher, Flow
from localemp.strategies.code import code_name, is_code, load_code
from localemp.strategies.flows import flow_part
from localemp.strategies.knowledge import KNOWLEDGE
from localemp.strategies.parts import Part, PartContext, as_part
from localemp.strategies.shots import FEW_SHOT
from localemp.strategies.similar import SIMILAR
from localemp.strategies.strategy import Strategy
from localemp.utils.files import is_file, version_of
from localemp.utils.option import Option, unique
from localemp.utils.paths import at_home
from localemp.utils.plugins import check_options, described, load_plugins, why_missing

Allowed = Literal["files", "code"]
"""What a part of a strategy may be besides a name: a flow's file, or also code of the user's own."""

PARTS: dict[str, Part] = {}


def register_part(name: str, part: Part) -> None:
    """Register a part of strategies; it combines with all parts of other places.

    Args:
        name: Name of the part: letters, digits, hyphens and underscores.
        part: The part.

    Raises:
        OptionError: The name is taken or invalid, or an option has the name of a different option.
    """
    if name in PARTS:
        raise OptionError(f"the part {name!r} already exists")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise OptionError(f"{name!r} is not a valid name for a part", "use letters, digits, hyphens and underscores")
    unique([*_options(), *part.options])
    PARTS[name] = part


def parts() -> Mapping[str, Part]:
    """Return the parts by name, those of plug-ins included."""
    load_plugins("strategy", _add_plugin)
    return PARTS


def _add_plugin(name: str, value: object) -> None:
    part = as_part(name, value)
    check_options(name, part.options, _options())
    register_part(name, replace(part, offered=False))


def part_options() -> tuple[Option, ...]:
    """Return the options of all parts, each once."""
    parts()
    return _options()


def _options() -> tuple[Option, ...]:
    return unique(option for part in PARTS.values() for option in part.options)


def parts_with(option: Option) -> list[str]:
    """Return the names of the parts that have an option."""
    return [name for name, part in parts().items() if option in part.options]


PAPER_FLOWS = ("zero-shot", "two-stage")
"""The flows of the paper; `serve` offers the others only if they are named."""


def _register_bundled() -> None:
    flows = {name: flow_part(path, offered=name in PAPER_FLOWS) for name, path in bundled_flows().items()}
    register_part("zero-shot", replace(flows.pop("zero-shot"), place=None))
    register_part("few-shot", FEW_SHOT)
    register_part("similar", SIMILAR)
    register_part("knowledge", KNOWLEDGE)
    register_part("two-stage", flows.pop("two-stage"))
    for name, part in flows.items():
        register_part(name, part)


_register_bundled()


def is_flow_file(name: str) -> bool:
    """Return whether a part's name is the path of a flow's file."""
    return name.endswith(".toml")


def find_part(name: str) -> Part:
    """Return a part: a registered one by its name, the user's own flow by its path, or the user's own code.

    Raises:
        UnknownNameError: There is no part of this name.
        PromptError: The file is not a valid flow.
        OptionError: The code cannot be used.
    """
    if is_flow_file(name):
        return _own_flow(name)
    if is_code(name):
        return _own_code(name)
    known = parts()
    if name not in known and is_file(at_home(name)):
        if name.endswith(".py"):
            raise OptionError(f"{name}: which class of the file is the strategy?", f"name it: {name}:CLASS")
        raise PromptError(f"{name}: its name does not end in .toml", "a flow is a TOML file: call it NAME.toml")
    if name not in known:
        hint = "Join them with + (similar+two-stage); ./mine.toml is a flow of your own, ./mine.py:Mine your own code"
        if is_file(at_home(f"{name}.toml")):
            hint = f"A flow of your own is named with its file's ending: {name}.toml"
        raise UnknownNameError(
            "strategy", name, known, hint, why_missing("strategy", name), "`localemp generate --help`"
        )
    return known[name]


def _own_flow(name: str) -> Part:
    path = at_home(name)
    try:
        version = version_of(path)
    except (OSError, ValueError):
        version = ()  # reading it tells why
    part = _read_flow(path, version)
    if path.stem in parts():
        raise OptionError(f"{name}: there is a strategy {path.stem!r} already", "give the file another name")
    return part


def _own_code(name: str) -> Part:
    part = load_code(name).part
    if code_name(name) in parts():
        raise OptionError(f"{name}: there is a strategy {code_name(name)!r} already", "give the class another name")
    unique([*_options(), *part.options])
    return part


@lru_cache(64)
def _read_flow(path: Path, version: tuple[int, ...]) -> Part:
    """Read a flow; once for as long as the file does not change."""
    return flow_part(path)


def several_strategies(text: str) -> tuple[str, ...]:
    """Return strategies that are joined by commas; nothing if it is one, or a file whose name has a comma."""
    if "," not in text or is_file(at_home(text)):
        return ()
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def parse_strategy(text: str, *, allow: Allowed = "code") -> tuple[str, ...]:
    """Return the parts of a strategy's name, in canonical order, flows last.

    Args:
        text: One part, or several joined by "+".
        allow: "files" for plans and servers, "code" for a command line and Python.

    Raises:
        UnknownNameError: A part does not exist; lists the known ones.
        PromptError: A file is not a valid flow.
        OptionError: Parts exclude each other, these are several strategies, or one is code and that is not allowed.
    """
    if several := several_strategies(text):
        raise OptionError(
            f"strategy {text!r}: one is expected, and these are {len(several)}",
            f"an experiment compares them: localemp experiment {','.join(several)}",
        )
    names = text.split("+")
    known = {name: _allowed(name, allow) for name in names}
    for name in names:
        others = [other for other in names if other != name and known[other].place == known[name].place]
        if len(names) != len(set(names)) or others or (known[name].place is None and len(names) > 1):
            raise OptionError(f"strategy {text!r}: its parts exclude each other", _what_combines())
    order = list(parts())
    return tuple(
        sorted(
            names, key=lambda name: (known[name].place == "flow", order.index(name) if name in order else len(order))
        )
    )


def _allowed(name: str, allow: Allowed) -> Part:
    if allow == "files" and is_code(name):
        raise OptionError(
            f"{name} is code, which only `--strategy` and Python may name",
            "a package can add it under a name that is allowed here; docs/extending.md builds one",
        )
    return find_part(name)


def strategy_options(text: str) -> tuple[Option, ...]:
    """Return the options of a strategy's parts, each once.

    Raises:
        LocalempError: As `parse_strategy` does.
    """
    return unique(option for name in parse_strategy(text) for option in find_part(name).options)


def check_heeded(names: Collection[str], strategies: Sequence[str]) -> None:
    """Check that no option is given that none of the strategies has: it would change nothing.

    Args:
        names: Names of the options that are given; others than those of parts are ignored.
        strategies: The strategies.

    Raises:
        OptionError: One is.
        LocalempError: As `parse_strategy` does.
    """
    own = {option for strategy in strategies for option in strategy_options(strategy)}
    for option in part_options():
        if option.name in names and option not in own:
            heeding = parts_with(option)
            are = f"strategy is {strategies[0]}" if len(strategies) == 1 else f"strategies are {', '.join(strategies)}"
            raise OptionError(
                f"{option.flag} applies to {' and '.join(heeding)}, but the {are}",
                f"use --strategy {heeding[0]}, alone or joined with +, or leave {option.flag} out",
            )


def canonical_name(text: str) -> str:
    """Return a strategy's name in tables and manifests: "similar+mine" for a file ./mine.toml, or for code ./a.py:mine.

    Raises:
        LocalempError: As `parse_strategy` does.
    """
    return "+".join(_short_name(name) for name in parse_strategy(text))


def _short_name(name: str) -> str:
    if is_flow_file(name):
        return Path(name).stem
    return code_name(name) if is_code(name) else name


def code_hashes(text: str) -> dict[str, str]:
    """Return the hashes of the parts of a strategy that are the user's own code, by their names in manifests."""
    return {code_name(name): load_code(name).sha256 for name in parse_strategy(text) if is_code(name)}


def _in_order() -> list[str]:
    """Return all parts in the order of canonical names: enrichers, then flows."""
    return sorted(parts(), key=lambda name: PARTS[name].place == "flow")


def _what_combines() -> str:
    """Return one line on which parts combine."""
    places: dict[str | None, list[str]] = {}
    for name, part in parts().items():
        places.setdefault(part.place, []).append(name)
    alone = places.pop(None)
    flows = ", ".join(places.pop("flow"))
    several = ", ".join(f"one of {' and '.join(names)}" for names in places.values() if len(names) > 1)
    single = " and ".join(name for names in places.values() if len(names) == 1 for name in names)
    return (
        f"use at most {several}, at most one flow ({flows}, or a file of your own), optionally with {single}; "
        f"{' and '.join(alone)} combines with nothing"
    )


def all_strategies(more: Collection[str] = ()) -> tuple[str, ...]:
    """Return the canonical names of the strategies that `serve` offers by itself, shorter combinations first.

    Plug-ins are not among them: each enricher would double their number.

    Args:
        more: Further parts to combine.
    """
    names = []
    offered = [name for name in _in_order() if parts()[name].offered or name in more]
    for size in range(1, len({PARTS[name].place for name in offered}) + 1):
        for chosen in combinations(offered, size):
            places = {PARTS[name].place for name in chosen}
            if len(places) == size and (size == 1 or None not in places):
                names.append("+".join(chosen))
    return tuple(names)


def build_strategy(
    text: str,
    prompts: Prompts,
    sampling: Sampling,
    context: PartContext,
    keep_thinking: bool = False,
    trim_to_sentence: bool = False,
) -> Strategy:
    """Build a strategy by its name.

    Args:
        text: One part, or several joined by "+".
        prompts: The template in the model's layout.
        sampling: Sampling parameters.
        context: What the parts are built from.
        keep_thinking: Whether replies begin with the model's thinking.
        trim_to_sentence: Whether truncated replies are cut at their last whole sentence.

    Raises:
        LocalempError: The name is invalid, or a part cannot be built.
    """
    made = [_made(name, context) for name in parse_strategy(text)]
    enrichers = [part for part in made if isinstance(part, Enricher)]
    flows = [part for part in made if isinstance(part, Flow)]
    flow = flows[0] if flows else None
    return Strategy(
        canonical_name(text),
        prompts,
        sampling,
        enrichers,
        flow,
        keep_thinking=keep_thinking,
        trim_to_sentence=trim_to_sentence,
    )


def _made(name: str, context: PartContext) -> Enricher | Flow | None:
    made: object = find_part(name).make(context)
    if made is None or isinstance(made, Enricher | Flow):
        return made
    raise OptionError(f"strategy {name}: it makes {described(made)}, not a Flow or an Enricher")
