"""The classes of all commands and groups: no word that was typed is dropped, and a typo is told with what exists."""

from collections import Counter

import click

from localemp.errors import UnknownNameError


class Command(click.Command):
    """A command that refuses an option that is given twice; click itself takes the last one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        if not ctx.resilient_parsing:  # as completion does
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            for option, times in Counter(order).items():
                if times > 1 and isinstance(option, click.Option) and _has_one_value(option):
                    raise click.UsageError(f"{' and '.join(_names(option))} can be given only once.", ctx)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group whose commands are a `Command` each; an unknown command is told with those that exist."""

    command_class = Command
    group_class = type

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name.

        Raises:
            UnknownNameError: There is none.
        """
        if (found := super().get_command(ctx, cmd_name)) is None:
            raise UnknownNameError("command", cmd_name, self.list_commands(ctx))
        return found


def _has_one_value(option: click.Option) -> bool:
    """Return whether two occurrences may contradict each other."""
    return not (option.multiple or option.count or (option.is_flag and not option.secondary_opts))


def _names(option: click.Option) -> list[str]:
    return [max(names, key=len) for names in (option.opts, option.secondary_opts) if names]
