"""Whether and how long a model thinks in a run: what its profile says, and what the user asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from localemp.errors import OptionError

if TYPE_CHECKING:
    from localemp.models.profiles import Profile

OnOff = Literal["on", "off"]


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


def thinking_mode(profile: "Profile", wanted: OnOff | None = None, budget: int | None = None) -> ThinkingMode:
    """Return how a model thinks in a run.

    Args:
        profile: The model's profile.
        wanted: `--thinking`; None for the profile's default.
        budget: `--thinking-budget`; None for the profile's.

    Raises:
        OptionError: The model has no such switch, or a budget is given for one that does not think.
    """
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
    if profile.hosted:
        return (
            "set what its server knows in [request] of a profile, such as reasoning_effort, or add a table [thinking]"
        )
    return "write a profile with a table [thinking]: docs/thinking.md"
