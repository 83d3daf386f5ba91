"""What the scripts here share: options, the file of results, and errors in one line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from localemp.errors import LocalempError

F = TypeVar("F", bound=Callable[..., Any])

data_option: Callable[[F], F] = click.option(
    "--data", required=True, help="A folder with EmpatheticDialogues, or any other --data of localemp."
)
engine_args_option: Callable[[F], F] = click.option("--engine-arg", "engine_args", multiple=True, metavar="NAME=VALUE")
out_option: Callable[[F], F] = click.option(
    "--out", type=click.Path(path_type=Path), help="Write all values to this JSON file."
)


class Script(click.Command):
    """A command whose errors are told in a line, as those of `localemp` are."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the script."""
        try:
            return super().invoke(ctx)
        except LocalempError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise click.ClickException(f"{error.message}{hint}") from error


def write_result(out: Path | None, result: Mapping[str, Any]) -> None:
    """Write all values to the file, if one was asked for."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
