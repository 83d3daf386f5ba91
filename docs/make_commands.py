"""Writes docs/commands.md from the commands themselves: `python docs/make_commands.py`.

A test fails when the file is stale.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from localemp.cli.main import cli

TARGET = Path(__file__).parent / "commands.md"


def reference() -> str:
    """The help of every command, as Markdown."""
    os.environ["LOCALEMP_CONFIG"] = os.devnull  # the defaults of whoever writes it are nobody else's
    os.environ.pop("LOCALEMP_MODEL", None)
    parts = ["# Commands\n\nMade by `python docs/make_commands.py` from `localemp --help`.\n"]
    # As click makes it when the command is run; a command keeps the first help option that it was asked for.
    settings = {**cli.context_settings, "terminal_width": 100, "max_content_width": 100}
    root = click.Context(cli, info_name="localemp", **settings)
    for names, context in _contexts(root):
        parts.append(f"## {names}\n\n```\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def _contexts(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield context.command_path, context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _contexts(click.Context(command, parent=context, info_name=name, terminal_width=100))


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
