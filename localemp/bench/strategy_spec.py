"""The specification of strategies for `bench strategies`: zero-shot,few-shot:1,similar:3+two-stage."""

from dataclasses import dataclass

from localemp.errors import OptionError
from localemp.strategies.code import is_code
from localemp.strategies.registry import all_strategies, canonical_name, is_flow_file, parse_strategy, parts_with
from localemp.strategies.shots import SHOTS


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy to measure.

    Attributes:
        strategy: Its parts, joined by "+"; files and code by their paths.
        shots: The number of exemplars; None leaves it to the config.
    """

    strategy: str
    shots: int | None = None

    @property
    def name(self) -> str:
        """The name in results: few-shot:1. A file is called by its stem."""
        name = canonical_name(self.strategy)
        if self.shots is None:
            return name
        return "+".join(f"{part}:{self.shots}" if part in parts_with(SHOTS) else part for part in name.split("+"))


def parse_specs(text: str) -> list[StrategySpec]:
    """Parse a list of strategies such as "zero-shot,few-shot:1,similar:3+two-stage".

    Raises:
        UnknownNameError: A part that does not exist.
        OptionError: A number of shots that is none, or where no exemplars are; parts that exclude each other; a
            strategy that is there twice; nothing.
    """
    chosen = [_parse(word.strip()) for word in text.split(",") if word.strip()]
    if not chosen:
        raise OptionError("--strategies: none is named", f"known: {', '.join(all_strategies())}")
    names = [each.name for each in chosen]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"--strategies: {name} is there twice", "name each strategy once")
    return chosen


def _parse(word: str) -> StrategySpec:
    names, shots = [], None
    for part in word.split("+"):
        name, colon, number = (part, "", "") if is_code(part) or is_flow_file(part) else part.partition(":")
        names.append(name)
        if not colon:
            continue
        with_shots = parts_with(SHOTS)
        if name not in with_shots:
            raise OptionError(f"--strategies {word}: {name} shows no exemplars", f"only {' and '.join(with_shots)} do")
        if not number.isdecimal() or int(number) < 1:
            raise OptionError(f"--strategies {word}: {number!r} is not a number of exemplars", f"for example {name}:5")
        shots = int(number)
    return StrategySpec("+".join(parse_strategy("+".join(names))), shots)
