"""Whether and how long a model thinks in a run: what its profile says, and what the user asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from localemp.errors import OptionError

if TYPE_CHECKING:
    from localemp.models.profiles import Profile

OnOff = Literal["on", "off"]

NO_REASONING: Final = "none"
"""The reasoning effort with which a hosted model does not reason."""

ROOM: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens that a hosted model has for reasoning at each effort, besides the reply's, unless the user says how many.

A service counts both against one limit, and an answer whose reasoning has used it up has no text. Tokens that are not
used cost nothing. The figures are ours.
"""


@dataclass(frozen=True, slots=True)
class ThinkingMode:
    """What a run asks of a model.

    Attributes:
        thinks: Whether it thinks; None if that is unknown: the profile does not say, or a server decides.
        budget: The most tokens of thinking before one reply; None if it does not think.
        asked: What the chat template is told because of `--thinking`; empty without it.
        template_options: All arguments of the chat template.
        engine_args: vLLM's engine arguments that make it read, bound and count the thinking.
    """

    thinks: bool | None = None
    budget: int | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    template_options: Mapping[str, Any] = field(default_factory=dict)
    engine_args: Mapping[str, Any] = field(default_factory=dict)


def thinking_mode(
    profile: "Profile", wanted: OnOff | None = None, budget: int | None = None, effort: str | None = None
) -> ThinkingMode:
    """Return how a model thinks in a run.

    Args:
        profile: The model's profile.
        wanted: `--thinking`; None for the profile's default.
        budget: `--thinking-budget`; None for the profile's, or for what `effort` needs.
        effort: `--reasoning-effort`; None for the profile's.

    Raises:
        OptionError: The model has no such switch, or a budget is given for one that does not think.
    """
    if effort is None or wanted == "off":
        return _by_profile(profile, wanted, budget)
    if effort == NO_REASONING:
        if budget is not None:
            raise OptionError(
                f"--thinking-budget {budget}: with --reasoning-effort {effort} {profile.name} does not think",
                "omit one of them",
            )
        return replace(_by_profile(profile, wanted, None), thinks=False, budget=None)
    mode = _by_profile(profile, wanted, None)
    return replace(mode, thinks=True, budget=budget or ROOM.get(effort, ROOM["medium"]))


def _by_profile(profile: "Profile", wanted: OnOff | None, budget: int | None) -> ThinkingMode:
    table, name = profile.thinking, profile.name
    if table is None:
        if wanted is not None:
            raise OptionError(
                f"--thinking {wanted}: the profile of {name} names no switch for thinking", _hint(profile)
            )
        if budget is not None:
            raise OptionError(
                f"--thinking-budget {budget}: the profile of {name} does not say that it thinks", _hint(profile)
            )
        return ThinkingMode(template_options=profile.chat_template_kwargs)
    if table.switch is None and wanted == "off":
        raise OptionError(f"--thinking off: {name} always thinks", "leave it out, or take another model")
    asked: dict[str, Any] = {}
    if table.switch is not None and wanted is not None:
        asked = {table.switch: table.on if wanted == "on" else table.off}
    options = {**profile.chat_template_kwargs, **asked}
    thinks: bool | None = True
    if table.switch is not None and profile.hosted and not asked:
        thinks = None  # the server has its own default, which is left alone
    elif table.switch is not None:
        thinks = options.setdefault(table.switch, table.on) != table.off
    if not thinks:
        if budget is not None:
            raise OptionError(
                f"--thinking-budget {budget}: {name} does not think", "add --thinking on, or leave it out"
            )
        return ThinkingMode(thinks, None, asked, options)
    arguments: dict[str, Any] = {"reasoning_parser": table.parser} if table.parser else {}
    if table.marks is not None:
        start, end = table.marks
        arguments["reasoning_config"] = {"reasoning_start_str": start, "reasoning_end_str": end}
    return ThinkingMode(True, budget or table.budget, asked, options, arguments)


def _hint(profile: "Profile") -> str:
    efforts = profile.takes.reasoning_effort
    if efforts is not None:
        reasoning = [effort for effort in efforts if effort != NO_REASONING]
        return f"use --reasoning-effort {' or '.join(reasoning)}" if reasoning else "take a model that reasons"
    if profile.hosted:
        return "use --reasoning-effort, or set in a profile what its server knows: [request], and room in [thinking]"
    return "write a profile with a table [thinking]: docs/thinking.md"
