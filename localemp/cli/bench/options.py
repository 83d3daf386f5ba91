"""Options that several benchmarks share, and what they do at their end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from localemp.bench.result import Recording

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
