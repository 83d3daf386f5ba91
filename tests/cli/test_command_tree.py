"""What holds for every command: nothing that is typed is dropped silently."""

from collections.abc import Iterator

import click
import pytest

from localemp.cli.command import Command, Group
from localemp.cli.main import cli
from localemp.errors import LocalempError, UnknownNameError


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


def test_rules_on_options_name_options_that_exist():
    for name, command in COMMANDS.items():
        if not isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=click.Context(cli))
            known = {param.name for param in command.get_params(context)}
            shared = {"show"}  # a rule for `generate`, which `experiment` shares
            for rules in (command.needs, command.excludes):
                assert {*rules, *(other for others in rules.values() for other in others)} - known <= shared, name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("generate --json", "--json does nothing without --estimate"),
        ("generate --estimate --show 2", "--show does nothing with --estimate"),
        ("generate --actors 3", "--actors does nothing without --ray"),
        ("generate --instances published", "--instances is for EmpatheticDialogues, and samples is other data"),
        ("generate --split train", "--split train: samples is one file"),
        ("generate --shots 5 -s zero-shot", "--shots applies to few-shot and similar, but the strategy is zero-shot"),
        ("generate --comet comet-mini -s few-shot", "--comet applies to knowledge"),
        ("generate --select all", "--select applies to knowledge"),
        ("generate --pool samples", "--pool applies to few-shot and similar"),
        ("prompts show --encoder x", "--encoder applies to similar"),
        ("respond Hi --shots 3", "--shots applies to few-shot and similar"),
        ("serve --strategies zero-shot --shots 3", "--shots applies to few-shot and similar"),
        ("experiment smoke --json", "--json does nothing without --estimate"),
        ("experiment smoke --estimate --ray local", "--ray does nothing with --estimate"),
        ("score nix --data samples", "--data does nothing without --import"),
        ("score nix --verbose --json", "--verbose does nothing with --json"),
        ("score nix --engine-arg a=1", "--engine-arg does nothing without --ppl or --judge"),
        ("score nix --batch", "--batch does nothing without --judge"),
        ("score nix --model x", "--model does nothing without --ppl"),
        ("report nix --title x", "--title does nothing without --html"),
        ("bench report nix --title x", "--title does nothing without --html"),
        ("bench score --run x --data samples", "--data does nothing with --run"),
        ("study report nix --json --csv x", "--csv does nothing with --json"),
        ("knowledge build --seed 2 --out k.jsonl", "--seed does nothing without --sample"),
        ("runs show x --index 1 --limit 2", "--limit does nothing with --index"),
        ("data stats samples --split train", "--split train: samples is one file"),
        ("data stats samples --instances published", "--instances is for EmpatheticDialogues"),
    ],
)
def test_an_option_that_does_nothing_is_an_error(words, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LocalempError) as raised:
        cli.main(words.split(), standalone_mode=False)
    assert told in raised.value.message
    assert raised.value.exit_code == 2
    assert [*tmp_path.iterdir()] == []
