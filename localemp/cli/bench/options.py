"""Shared options of benchmarks, and the end of a benchmark."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localemp.cli.interrupts import INTERRUPTED
from localemp.cli.types import FilePath
from localemp.utils.interrupts import uninterrupted

if TYPE_CHECKING:
    from localemp.bench.result import Recording, Result
    from localemp.cli.display import Display
    from localemp.dialogue import Dialogue
    from localemp.pipeline.pipeline import Pipeline

N = TypeVar("N", int, float)


def can_be_written(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Check that the result's file (by default in bench/) can be written, before anything is loaded."""
    folders = (path or Path("bench", "result.json")).absolute().parents
    there = next(folder for folder in folders if os.path.exists(folder))  # noqa: PTH110  Path's own raises
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "it is not writable" if there.is_dir() else "it is not a folder"
        raise click.BadParameter(f"{path or 'bench'} cannot be made in {there}: {what}; name another", ctx, option)
    return path


out_option = click.option(
    "--out", type=FilePath(dir_okay=False), callback=can_be_written,
    help="File of the result (JSON); by default bench/KIND-TIME.json.",
)  # fmt: skip
repeats_option = click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Repeats of each measurement, after a warm-up.",
)
load_format_option = click.option(
    "--load-format", type=click.Choice(["auto", "dummy"]), default="auto", show_default=True,
    help="dummy: random weights from the model's configuration alone; the speed is real, the replies mean nothing.",
)  # fmt: skip
dialogues_option = click.option(
    "--dialogues",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Dialogues, from the start of the data.",
)


def number_list(kind: Callable[[str], N]) -> Callable[..., tuple[N, ...] | None]:
    """For an option that takes numbers above 0 between commas, integers or floats: each once, smallest first."""

    def read(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[N, ...] | None:
        found = set[N]()
        for part in value.split(",") if value is not None else ():
            try:
                number = kind(part)
            except ValueError:
                number = kind("0")
            found.add(number)
            if not number > 0:  # nan is not either
                what = "whole number" if kind is int else "number"
                raise click.BadParameter(f"{part.strip()!r} is no {what} above 0; write them like 1,4,16", ctx, option)
        return None if value is None else tuple(sorted(found))

    return read


@contextmanager
def model_to_measure(options: dict[str, Any], load_format: str, display: "Display") -> Iterator["Pipeline"]:
    """Yield the model that the options name, to run here; a folder of dummy weights is deleted after the block.

    Raises:
        UnknownNameError: There is no such strategy or model.
        OptionError: It answers on a server, or is a shape without weights; or a device was asked for, which vLLM
            chooses by itself.
    """
    import tempfile

    from localemp.cli.options import config_of
    from localemp.errors import OptionError, UnknownNameError
    from localemp.strategies.registry import parse_strategy
    from localemp.utils.machine import gpu

    config = config_of(options)
    parse_strategy(config.strategy)
    if "device" in config.engine_args:
        found = "finds no GPU here: its CPU build computes on the CPU" if gpu() == "none" else f"finds {gpu()}"
        raise OptionError(
            f"--engine-arg device={config.engine_args['device']}: vLLM takes no device, it chooses and {found}",
            "leave it out",
        )

    from localemp.bench.dummy import dummy_config, shipped_shapes
    from localemp.pipeline.pipeline import Pipeline

    with tempfile.TemporaryDirectory() as folder:
        config = dummy_config(config, Path(folder)) if load_format == "dummy" else config
        pipeline = Pipeline(config, display.on_progress)
        try:
            here = pipeline.runs_here
        except UnknownNameError as error:
            if config.model not in shipped_shapes():
                raise
            raise OptionError(
                f"{config.model} is a shape that ships without weights", "add --load-format dummy to measure its speed"
            ) from error
        if not here:
            raise OptionError(
                f"{config.model} answers on a server; this measures the engine here",
                "name a model to run here, or measure the server: localemp bench serve --url URL",
            )
        yield pipeline


def settings_of(pipeline: "Pipeline", dialogues: "list[Dialogue]", split: str) -> dict[str, Any]:
    """Return the settings that can change replies, and the options that can change speed."""
    from localemp.bench.dummy import dummy_origin

    config = pipeline.config
    settings = pipeline.settings(dialogues, split)
    settings |= {"engine_args": dict(config.engine_args), "concurrency": config.concurrency}
    if origin := dummy_origin(config):
        settings["weights_origin"] = origin  # not the folder, which is gone afterwards
    return settings


def default_out(kind: str) -> Path:
    """Return a file name that is unique to this result."""
    return Path("bench") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}.json"


@contextmanager
def measured(recording: "Recording") -> Iterator["Recording"]:
    """Keep what was measured whatever happens: its tables are printed at the end, also after Ctrl-C or an error."""
    try:
        with recording:
            yield recording
    except KeyboardInterrupt:
        with uninterrupted():
            if kept := _kept(recording):
                finish(kept, recording.path)
            else:
                click.echo("stopped: nothing was measured", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception:
        if recording.result.points:
            finish(recording.result, recording.path)
        raise
    finish(recording.result, recording.path)


def finish(result: "Result", path: Path) -> None:
    """Print the tables and where they are."""
    from localemp.cli.bench.printing import print_result

    print_result(result)
    click.echo(f"result: {path}")
    if not result.finished:
        click.echo(f"not finished: {result.stopped or 'the process ended'}", err=True)


def _kept(recording: "Recording") -> "Result | None":
    """Return the result in the file; None if it is another one. An interrupt may have lost its last point."""
    from localemp.bench.result import read_result
    from localemp.errors import DataError

    try:
        kept = read_result(recording.path)
    except DataError:
        return None
    return kept if kept.created == recording.result.created else None
