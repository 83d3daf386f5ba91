"""`localemp data`: statistics of data sets, and fetching EmpatheticDialogues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from localemp.cli.command import Group
from localemp.cli.options import check_instances, columns_option
from localemp.cli.tables import show_table
from localemp.cli.types import NAME

if TYPE_CHECKING:
    from rich.table import Table

    from localemp.data.conversations import Instances
    from localemp.data.stats import Stats

_MOST_STRATEGIES = 12


@click.group(cls=Group)
def data() -> None:
    """Count dialogues, and fetch EmpatheticDialogues."""


@data.command()
@click.argument("path", type=NAME)
@columns_option
@click.option("--split", "splits", multiple=True, metavar="SPLIT", help="train, valid or test; may be repeated.")
@click.option(
    "--instances",
    type=click.Choice(["clean", "published"]),
    default="clean",
    show_default=True,
    help="Count every listener turn, or exactly the instances that the paper used.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def stats(path: str, columns: dict[str, str], splits: tuple[str, ...], instances: Instances, as_json: bool) -> None:
    """Count conversations, instances, words and emotions.

    PATH is a file or folder of EmpatheticDialogues, ESConv, ShareGPT, OpenAI messages or your own dialogues, or one of
    samples, bundled and empathetic-dialogues. Without --split, all splits of a folder are counted.
    """
    from dataclasses import asdict

    from localemp.utils.text import json_text

    counted = _count(path, columns, splits, instances)
    if as_json:
        report = {
            "source": path,
            "instances": instances,
            "splits": {name: asdict(one) for name, one in counted.items()},
        }
        click.echo(json_text(report, indent=2))
    else:
        show_table(_table(path, counted))


@data.command()
@click.option("--out", type=NAME, metavar="DIR", help="Folder for the files; by default in localemp's cache.")
def pull(out: str | None) -> None:
    """Fetch the official EmpatheticDialogues archive (CC BY-NC 4.0), verified by SHA-256."""
    from localemp.cli.display import Display
    from localemp.data import download
    from localemp.utils.paths import at_home, cache_dir

    folder, name = at_home(out) if out else cache_dir("data", "empathetic_dialogues"), out or "empathetic-dialogues"
    with Display() as display:
        files = download.pull(folder, display.on_progress)
    for file in files:
        click.echo(file)
    click.echo(f"use it with: --data {name}")
    click.echo(f"before --strategy similar, once: localemp retrieval build --data {name}")


def _count(path: str, columns: dict[str, str], wanted: tuple[str, ...], instances: Instances) -> dict[str, Stats]:
    """Return statistics by split; a single file counts as one split, under its name."""
    from localemp.data.columns import source_of
    from localemp.data.sources import find_source
    from localemp.data.splits import canonical_split
    from localemp.errors import OptionError

    if instances != "clean":
        check_instances(source_of(path, columns))
    reader, splits = find_source(source_of(path, columns)), tuple(map(canonical_split, wanted))
    if splits and reader.is_whole:
        raise OptionError(f"--split {wanted[0]}: {path} is one file, which is read whole", "leave --split out")
    return reader.count(splits, instances)


def _table(path: str, counted: dict[str, Stats]) -> Table:
    """Print a table with one column per split."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", title=Text(path), title_justify="left")
    for name in counted:
        table.add_column(Text(name), justify="right")

    def row(label: str, values: list[str]) -> None:
        table.add_row(label, *map(Text, values))

    every = list(counted.values())
    row("conversations", [f"{one.conversations:,}" for one in every])
    row("utterances", [f"{one.utterances:,}" for one in every])
    row("instances", [f"{one.instances:,}" for one in every])
    row("turns per context", [f"{one.turns_per_context:.2f}" for one in every])
    row("words per utterance", [f"{one.words_per_utterance:.2f}" for one in every])
    row("words per reply", ["-" if one.words_per_reply is None else f"{one.words_per_reply:.2f}" for one in every])
    row("emotions", [f"{len(one.emotions)}" for one in every])
    row("  most frequent", [_ranked(list(one.emotions.items())[:3]) for one in every])
    row("  least frequent", [_ranked(list(one.emotions.items())[3:][-3:]) for one in every])
    if any(one.support_strategies for one in every):
        row("support strategies", [_ranked(list(one.support_strategies.items())[:_MOST_STRATEGIES]) for one in every])
    return table


def _ranked(emotions: list[tuple[str, int]]) -> str:
    return "\n".join(f"{name} {count:,}" for name, count in emotions) or "-"
