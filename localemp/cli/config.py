"""`localemp config`: the user's defaults of options, in a file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from localemp.cli.command import Group
from localemp.cli.defaults import KEYS, VARIABLES, as_key, as_typed, checked_key, find_defaults, shown
from localemp.cli.options import defaultable_options, parse_engine_args, parse_sampling
from localemp.errors import LocalempError, OptionError
from localemp.utils.text import for_terminal
from localemp.utils.user_config import Value, config_path, read_config, write_value

_FILES = ("model", "strategy", "variant", "data")  # whose value can be a path


@click.group(cls=Group)
def config() -> None:
    """Set defaults of options, such as the model, in a file of yours.

    An option that is typed counts, then LOCALEMP_MODEL, then this file. Library functions read neither.
    """


@config.command(name="set", context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("values", nargs=-1, required=True, metavar="VALUE...", type=click.UNPROCESSED)
@click.pass_context
def set_(ctx: click.Context, key: str, values: tuple[str, ...]) -> None:
    """Set the default of an option: `localemp config set model llama`.

    Several VALUES are for an option that may be repeated. The path of a file or folder is kept as an absolute one.
    """
    name = checked_key(key, list(values))
    value = _read(ctx, name, values)
    path = write_value(name, value)
    click.echo(for_terminal(f"{name} = {shown(value)}, in {path}"))
    if (variable := VARIABLES.get(name)) and os.environ.get(variable, "").strip():
        click.echo(f"{variable} is set, too, and comes first", err=True)


@config.command()
@click.argument("key")
@click.pass_context
def get(ctx: click.Context, key: str) -> None:
    """Print the default of an option that you set; exit code 1 if there is none."""
    name = checked_key(key, None)
    found = find_defaults(read_config()).get(name)
    if found is None:
        click.echo(f"{name} is not set", err=True)
        ctx.exit(1)
    click.echo(for_terminal(shown(found.value)))


@config.command()
@click.argument("key")
def unset(key: str) -> None:
    """Take the default of an option out of the file, or a key that no option has."""
    name = as_key(key)
    old = [each for each in read_config().values if as_key(each) == name]
    if not old:
        checked_key(key, None)
        click.echo(f"{name} is not set", err=True)
        return
    for each in old:
        path = write_value(each, None)
    click.echo(for_terminal(f"{name} is no longer in {path}"))


@config.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also keys that are not set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(everything: bool, as_json: bool) -> None:
    """List the defaults that you set, and where each is from."""
    from localemp.utils.text import json_text

    found = find_defaults(read_config())
    if as_json:
        click.echo(json_text({key: {"value": each.value, "source": each.source} for key, each in found.items()}, 2))
        return
    for key in KEYS:
        if each := found.get(key):
            click.echo(for_terminal(f"{key} = {shown(each.value)}  ({each.source})"))
        elif everything:
            click.echo(f"{key} is not set")
    if not found and not everything:
        click.echo(for_terminal(f"nothing is set; the file is {config_path()}"), err=True)


@config.command()
def path() -> None:
    """Print the path of the file."""
    click.echo(for_terminal(str(config_path())))


def wrong_default() -> LocalempError | None:
    """Return what is wrong with the user's config file or with a default in it; None if every command can use them."""
    ctx = click.get_current_context()
    try:
        for key, default in find_defaults(read_config()).items():
            option = defaultable_options()[key]
            value = option.converted(ctx, default)
            try:
                _check(key, str(option.name), value)
            except LocalempError as error:
                return default.error(key, error.message)
    except LocalempError as error:
        return error
    return None


def _read(ctx: click.Context, key: str, values: tuple[str, ...]) -> Value:
    """Return what was typed as the file has it.

    Raises:
        LocalempError: The option would not take it.
    """
    option = defaultable_options()[key]
    if len(values) > 1 and not option.multiple:
        raise OptionError(f"{key}: {len(values)} values, and it takes one", "put it into quotation marks")
    typed: Value = list(values) if option.multiple else _absolute(key, values[0])
    try:
        found: Any = option.type_cast_value(ctx, as_typed(typed, several=option.multiple))
    except click.BadParameter as error:
        raise OptionError(f"{key}: {error.message.rstrip('.')}", f"localemp config set {key} VALUE") from error
    _check(key, str(option.name), found)
    return list(found) if isinstance(found, tuple) else found


def _absolute(key: str, value: str) -> str:
    """Return the absolute path of a file or folder, which another folder's commands find, too; else the value."""
    path = Path(value).expanduser()
    is_path = key in _FILES and (os.sep in value or path.suffix) and path.exists()
    return str(path.absolute()) if is_path else value


def _check(key: str, name: str, value: Any) -> None:
    """Check a value as the commands will, as far as nothing is loaded or fetched."""
    from dataclasses import fields

    from localemp.data.sources import find_source
    from localemp.data.splits import canonical_split
    from localemp.models.profiles import load_profile
    from localemp.pipeline.config import RunConfig
    from localemp.prompting.template import load_template
    from localemp.strategies.registry import parse_strategy

    if name in {field.name for field in fields(RunConfig)}:
        pairs: dict[str, Callable[[Any], Any]] = {"engine_args": parse_engine_args, "sampling": parse_sampling}
        told: Any = {name: pairs[name](value) if name in pairs else value}
        RunConfig(**told)
    if key == "model" and "base-url" not in find_defaults(read_config()):  # a server has models of its own
        load_profile(value, "chat")
    checks: dict[str, Callable[[str], object]] = {
        "strategy": parse_strategy,
        "variant": load_template,
        "data": find_source,
        "split": canonical_split,
    }
    if key in checks:
        checks[key](value)
