"""Options that registered parts and metrics declare, as options of commands."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from localemp.cli.command import Command, was_typed
from localemp.cli.types import NAME, PATH
from localemp.errors import OptionError
from localemp.utils.option import Option


class RegisteredOptions(Command):
    """A command that has the options of whatever is registered when it runs.

    Args:
        registered: Gives these options.
        after: The parameter behind which `--help` lists them.
    """

    def __init__(self, *args: Any, registered: Callable[[], Iterable[Option]], after: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.registered, self.after = registered, after

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own options, and the registered ones among them."""
        return with_registered(ctx, super().get_params(ctx), self.registered(), self.after)


class StrategyCommand(RegisteredOptions):
    """A command for a strategy: it has the options of all parts, and its help lists the parts.

    Args:
        of_data: Whether options about a data set are among them; a server has none.
    """

    def __init__(self, *args: Any, of_data: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, registered=self._options, after="layout", **kwargs)
        self.of_data = of_data

    def _options(self) -> list[Option]:
        from localemp.strategies.registry import part_options

        return [option for option in part_options() if self.of_data or not option.of_data]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless several strategies were typed, or an option that its strategy does not have."""
        from localemp.cli.several_strategies import check_one_strategy

        check_one_strategy(ctx)
        if strategy := ctx.params.get("strategy"):
            check_typed_heeded(ctx, [strategy])
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options, then the parts that strategies are made of."""
        from localemp.strategies.registry import parts

        super().format_options(ctx, formatter)
        with formatter.section("Strategies (parts joined by +)"):
            formatter.write_dl([(name, part.about) for name, part in parts().items()])


def check_typed_heeded(ctx: click.Context, strategies: Sequence[str]) -> None:
    """Check that each option of a part that was typed is one that a strategy of the command has.

    A command of several strategies calls it when it has read their names.

    Raises:
        OptionError: One is not.
    """
    from localemp.strategies.registry import check_heeded

    check_heeded([name for name in ctx.params if was_typed(ctx, name)], strategies)


def with_registered(
    ctx: click.Context, params: Sequence[click.Parameter], options: Iterable[Option], after: str
) -> list[click.Parameter]:
    """Return a command's parameters and registered options, these behind the parameter called `after`."""
    registered = [click_option(option) for option in options]
    names = [each.name for each in params]
    if taken := [each.name for each in registered if each.name in names]:
        raise OptionError(f"{ctx.command_path} has an option {taken[0]!r} already", "rename the registered one")
    at = names.index(after) + 1
    return [*params[:at], *registered, *params[at:]]


@cache
def click_option(option: Option) -> click.Option:
    """Return an option of a part or a metric as click has it."""
    kind, several = _kind(option.type)
    named = [option.name, option.flags or option.flag]
    told: dict[str, Any] = {"default": option.default, "help": option.help, "metavar": option.metavar}
    if kind is bool:
        return click.Option(named if option.flags else [option.name, _on_off(named[1])], **told)
    if option.parse is not None:
        return click.Option(named, type=_Parsed(option.parse), **told)
    shown = option.default not in (None, ())
    return click.Option(named, type=_click_type(kind), multiple=several, show_default=shown, **told)


def _on_off(flag: str) -> str:
    return f"{flag}/--no-{flag.removeprefix('--')}"


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there may be several."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(each for each in get_args(annotation) if each is not NoneType)
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0], True
    return annotation, False


def _click_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return {Path: PATH, str: NAME}.get(kind, kind)


class _Parsed(click.ParamType[Any]):
    """A text that the option itself reads."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed; a default is a value already."""
        return self._parse(value) if isinstance(value, str) else value
