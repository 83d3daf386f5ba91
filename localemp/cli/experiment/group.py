"""A group in which whatever is not a command's name is a plan to run."""

import importlib
from typing import Any

import click
from click.shell_completion import CompletionItem

from localemp.cli.lazy import LazyGroup

_RUN = "run"


class PlanGroup(LazyGroup):
    """A group whose commands are `show` and `list`, and that runs a plan for everything else.

    Args:
        otherwise: Module in localemp.cli with the command `run`; its help is the group's.
    """

    def __init__(self, *args: Any, otherwise: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.otherwise = otherwise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words as a command's, or as those of a plan with its options before or behind it."""
        return super().parse_args(ctx, args if not args or args[0] in self.commands_of else [_RUN, *args])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        return self._run() if cmd_name == _RUN else super().get_command(ctx, cmd_name)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of running a plan, and the list of commands."""
        self._run().format_help(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands and of bundled plans."""
        from localemp.experiments.plan import PLANS

        plans = [CompletionItem(name) for name in PLANS if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *plans]

    def _run(self) -> click.Command:
        command: click.Command = importlib.import_module(f"localemp.cli.{self.otherwise}").run
        return command
