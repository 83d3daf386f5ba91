"""What holds for every command: nothing that is typed is dropped silently."""

from collections.abc import Iterator

import click
import pytest

from localemp.cli.command import Command, Group
from localemp.cli.main import cli
from localemp.errors import UnknownNameError


def commands(group: click.Group = cli, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands, by the words that call them."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_one_of_ours(name):
    command = COMMANDS[name]
    assert isinstance(command, Group if isinstance(command, click.Group) else Command)


def test_an_option_that_has_one_value_is_given_once():
    told = set()
    for name, command in COMMANDS.items():
        context = click.Context(command, info_name=name, parent=click.Context(cli))
        for option in [] if isinstance(command, click.Group) else command.get_params(context):
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag):
                words = [option.opts[0], *["1"] * option.nargs]
                with pytest.raises(click.UsageError, match="only once"):
                    command.parse_args(context, [*words, *words])
                told.add(f"{name} {option.name}")
    assert {"generate limit", "generate shots", "score bertscore_model"} <= told


@pytest.mark.parametrize(
    "words",
    ["--limit 1 --limit 1", "-m smollm2 --model smollm2", "--labels --no-labels", "--seed 0 --limit 2 --seed=1"],
)
def test_what_contradicts_itself(words):
    command = COMMANDS["generate"]
    with pytest.raises(click.UsageError, match=r"^--[a-z-]+( and --[a-z-]+)? can be given only once"):
        command.parse_args(click.Context(command), words.split())


def test_what_may_be_repeated():
    command, context = COMMANDS["generate"], click.Context(COMMANDS["generate"])
    command.parse_args(context, ["--engine-arg", "a=1", "--engine-arg", "b=2", "--estimate", "--estimate"])
    assert context.params["engine_args"] == ("a=1", "b=2")


@pytest.mark.parametrize("words", ["genrate", "runs shwo", "study imprt", "data pul", "bench enigne"])
def test_an_unknown_command_is_told_with_those_that_exist(words):
    with pytest.raises(UnknownNameError, match="unknown command") as raised:
        cli.main(words.split(), standalone_mode=False)
    assert raised.value.hint.startswith("did you mean ")
