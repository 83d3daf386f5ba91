"""Options that several benchmarks share, and what they do at their end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from localemp.assembly import Assembly
    from localemp.bench.result import Recording
    from localemp.cli.display import Display

F = TypeVar("F", bound=Callable[..., Any])

out_option = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result here (JSON); by default bench/KIND-TIME.json.",
)  # fmt: skip
repeats_option = click.option(
    "--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Of each measurement, after a warm-up."
)
load_format_option = click.option(
    "--load-format", type=click.Choice(["auto", "dummy"]), default="auto", show_default=True,
    help="dummy: weights made up from the model's configuration alone; the speed is real, the replies mean nothing.",
)  # fmt: skip
dialogues_option = click.option(
    "--dialogues", type=click.IntRange(min=1), default=64, show_default=True, help="From the start of the data."
)


def number_list(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """For an option that takes numbers of at least 1 between commas: each once, smallest first."""
    try:
        numbers = None if value is None else tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        numbers = (0,)
    if numbers is not None and numbers[0] < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers of at least 1, such as 1,4,16", ctx, option)
    return numbers


@contextmanager
def model_to_measure(options: dict[str, Any], load_format: str, display: "Display") -> Iterator["Assembly"]:
    """The model that the options name, to run here; with dummy weights its folder is there as long as this block.

    Raises:
        OptionError: It answers on a server, or a device was asked for, which vLLM chooses by itself.
    """
    import tempfile

    from localemp.cli.options import recipe_of
    from localemp.errors import OptionError
    from localemp.machine import gpu

    recipe = recipe_of(options)
    if "device" in recipe.engine_args:
        found = "finds no GPU here: its CPU build computes on the CPU" if gpu() == "none" else f"finds {gpu()}"
        raise OptionError(
            f"--engine-arg device={recipe.engine_args['device']}: vLLM takes no device, it chooses and {found}",
            "leave it out",
        )

    from localemp.assembly import Assembly
    from localemp.bench.dummy import dummy_recipe

    with tempfile.TemporaryDirectory() as folder:
        recipe = dummy_recipe(recipe, Path(folder)) if load_format == "dummy" else recipe
        assembly = Assembly(recipe, display.bytes, display.embedding)
        if not assembly.runs_here:
            raise OptionError(
                f"{recipe.model} answers on a server; this measures the engine here",
                "name a model to run here, or measure the server: localemp bench serve --url URL",
            )
        yield assembly


def default_out(kind: str) -> Path:
    """A name of its own for every result."""
    return Path("bench") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}.json"


@contextmanager
def measured(recording: "Recording") -> Iterator["Recording"]:
    """Keep what was measured whatever happens: its tables are printed at the end, also after Ctrl-C or an error."""
    try:
        with recording:
            yield recording
    except KeyboardInterrupt:
        finish(recording)
        raise click.exceptions.Exit(130) from None
    except Exception:
        if recording.result.points:
            finish(recording)
        raise
    finish(recording)


def finish(recording: "Recording") -> None:
    """Print the tables and where they are."""
    from localemp.cli.bench.shown import print_result

    print_result(recording.result)
    click.echo(f"result: {recording.path}")
    if not recording.result.finished:
        click.echo(f"not finished: {recording.result.stopped}", err=True)
