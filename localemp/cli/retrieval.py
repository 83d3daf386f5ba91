"""`localemp retrieval`: embeds the training dialogues of `similar` ahead of time."""

from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import Group
from localemp.cli.interrupts import resumable
from localemp.cli.options import pool_options, verify_option
from localemp.cli.registered import RegisteredOptions

if TYPE_CHECKING:
    from localemp.utils.option import Option


def _options() -> "tuple[Option, ...]":
    from localemp.strategies.shots import POOL
    from localemp.strategies.similar import ENCODER, ENCODER_DTYPE

    return POOL, ENCODER, ENCODER_DTYPE


@click.group(cls=Group)
def retrieval() -> None:
    """Embed the training dialogues that `similar` finds its exemplars in."""


@retrieval.command(cls=RegisteredOptions, registered=_options, after="instances")
@pool_options
@verify_option
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def build(as_json: bool, **settings: Any) -> None:
    """Embed a pool of training dialogues ahead of time; commands with `similar` then use the index.

    The first line tells how long it takes. Ctrl-C stops; rerun the same command to resume. Nothing is embedded twice.
    """
    from dataclasses import asdict

    from localemp.cli.display import Display
    from localemp.commands.retrieval import build_index
    from localemp.utils.text import json_text

    with Display() as display, resumable(display.say):
        built = build_index(on_progress=display.on_progress, **settings)
    if as_json:
        click.echo(json_text({**asdict(built), "folder": built.folder and str(built.folder)}, indent=2))
        return
    for note in built.notes:
        click.echo(note)
    what = f"{built.rows:,} training dialogues, {built.dim} dimensions ({built.settings['encoder']})"
    click.echo(f"{what}: {built.folder or 'the cache cannot be written, so they are lost'}")
