"""`localemp completion`: completion of commands, options and names in bash, zsh and fish."""

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from localemp.cli.command import Command

VARIABLE = "_LOCALEMP_COMPLETE"
"""The environment variable by which a shell asks; click knows it by the command's name."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, models, strategies and runs.

    \b
    bash   eval "$(localemp completion bash)"    in ~/.bashrc
    zsh    eval "$(localemp completion zsh)"     in ~/.zshrc
    fish   localemp completion fish | source     in ~/.config/fish/config.fish
    """  # noqa: D301 (click looks for the character, not for the two that spell it)
    from localemp.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None  # one of the choices
    click.echo(made(cli, {}, "localemp", VARIABLE).source())


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a model: the names of profiles, then files and folders."""
    from localemp.utils.paths import resource

    return _starting([path.stem for path in sorted(resource("models").glob("*.toml"))], incomplete)


def complete_strategies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last part of a strategy: "similar+tw" to "similar+two-stage"."""
    from localemp.strategies.registry import parts

    before, plus, _ = incomplete.rpartition("+")
    taken = before.split("+")
    return _starting([f"{before}{plus}{name}" for name in parts() if name not in taken], incomplete)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the path of a run, in the folder that was typed, or else in `runs`."""
    from localemp.runs.run import list_runs

    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = [str(run) for parent in dict.fromkeys((folder, Path("runs"))) for run in list_runs(parent)]
    return _starting(dict.fromkeys(found), incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin as was typed; if none does, whatever file does."""
    # A shell takes a line break for the end of a name, and bytes that are no text cannot be told to it.
    found = [CompletionItem(name) for name in names if name.startswith(incomplete) and name.isprintable()]
    return found or [CompletionItem(incomplete, type="file")]
