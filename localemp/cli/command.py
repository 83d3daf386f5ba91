"""The classes of all commands and groups: no word that was typed is dropped, and a typo is told with what exists."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from localemp.errors import OptionError, UnknownNameError


class Command(click.Command):
    """A command that refuses what it would drop: an option that is given twice, or that does nothing beside the others.

    Args:
        needs: Parameter -> those of which one must be typed too, since it does nothing without.
        excludes: Parameter -> those beside which it does nothing.
    """

    def __init__(
        self,
        *args: Any,
        needs: Mapping[str, tuple[str, ...]] = {},
        excludes: Mapping[str, tuple[str, ...]] = {},
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.needs, self.excludes = needs, excludes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        if not ctx.resilient_parsing:  # as completion does
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            for option, times in Counter(order).items():
                if times > 1 and isinstance(option, click.Option) and _has_one_value(option):
                    raise click.UsageError(f"{' and '.join(_names(option))} can be given only once.", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless an option was typed that would do nothing."""
        typed = [name for name in ctx.params if was_typed(ctx, name)]
        shown = {param.name: _names(param)[0] for param in self.get_params(ctx) if param.name}
        for name, others in self.needs.items():
            if name in typed and not any(other in typed for other in others):
                listed = " or ".join(shown[other] for other in others)
                raise OptionError(
                    f"{shown[name]} does nothing without {listed}", f"add {listed}, or leave {shown[name]} out"
                )
        for name, others in self.excludes.items():
            if name in typed and (beside := [other for other in others if other in typed]):
                raise OptionError(f"{shown[name]} does nothing with {shown[beside[0]]}", "leave one of them out")
        return super().invoke(ctx)


class Group(click.Group):
    """A group whose commands are a `Command` each; an unknown command is told with those that exist."""

    command_class = Command
    group_class = type

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name.

        Raises:
            UnknownNameError: There is none.
        """
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:  # as completion does
            raise UnknownNameError("command", cmd_name, self.list_commands(ctx))
        return found


def was_typed(ctx: click.Context, name: str) -> bool:
    """Return whether a parameter is on the command line, rather than a default of ours or of the user's."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _has_one_value(option: click.Option) -> bool:
    """Return whether two occurrences may contradict each other."""
    return not (option.multiple or option.count or (option.is_flag and not option.secondary_opts))


def _names(param: click.Parameter) -> list[str]:
    if isinstance(param, click.Argument):
        return [param.human_readable_name]
    return [max(names, key=len) for names in (param.opts, param.secondary_opts) if names]
