"""A group of commands whose modules are imported only when they are asked for, so that `--help` answers at once."""

import builtins
import importlib
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

import click

from localemp.cli.command import Group
from localemp.errors import UnknownNameError


class LazyGroup(Group):
    """A group that imports a command when it is asked for.

    Args:
        commands_of: Command -> (module in localemp.cli, one line for --help), in the order of --help.
    """

    def __init__(self, *args: Any, commands_of: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_of = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in order."""
        return list(self.commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; for an unknown one, the error lists the known ones."""
        if cmd_name not in self.commands_of:
            if ctx.resilient_parsing:  # as completion does
                return None
            raise UnknownNameError("command", cmd_name, self.commands_of)
        module = importlib.import_module(f"localemp.cli.{self.commands_of[cmd_name][0]}")
        name = f"{cmd_name}_" if iskeyword(cmd_name) or hasattr(builtins, cmd_name) else cmd_name
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.commands_of.items()])
