"""`--strategy a,b`: several strategies are rows of an experiment, and the error says by which command."""

import shlex
import sys

import click

from localemp.errors import OptionError
from localemp.strategies.registry import several_strategies
from localemp.utils.redaction import redact_command


def check_one_strategy(ctx: click.Context) -> None:
    """Check that one strategy was typed.

    Raises:
        OptionError: There are several; the hint has the command that answers with all of them.
    """
    given = ctx.params.get("strategy")
    if isinstance(given, str) and (several := several_strategies(given)):
        told = f"--strategy {given}: {ctx.info_name} takes one strategy, and these are {len(several)}"
        raise OptionError(told, f"an experiment compares them: {shlex.join(_as_experiment(ctx, several))}")


def _as_experiment(ctx: click.Context, strategies: tuple[str, ...]) -> list[str]:
    """Return the command of the experiment, with the options that were typed and that it has, too."""
    known = {option for param in _experiment(ctx).get_params(ctx) for option in param.opts}
    words = ["localemp", "experiment", ",".join(strategies)]
    command = ctx.command
    typed, _, order = command.make_parser(ctx).parse_args(list(sys.argv[1:]))
    for param in dict.fromkeys(order):
        if param.name is None or param.name in ("strategy", "out") or param.opts[0] not in known:
            continue
        values = typed[param.name]
        for value in values if isinstance(values, list) else [values]:
            if isinstance(param, click.Option) and param.is_flag:
                words.append(max(param.opts if value else param.secondary_opts, key=len))
            else:
                words += [max(param.opts, key=len), str(value)]
    return [*words[:1], *redact_command(words[1:])]


def _experiment(ctx: click.Context) -> click.Command:
    """Return the command that runs a plan; importing it here would be a circle."""
    command = ctx.find_root().command
    for name in ("experiment", "run"):
        assert isinstance(command, click.Group)
        found = command.get_command(ctx, name)
        assert found is not None
        command = found
    return command
