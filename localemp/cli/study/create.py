"""`localemp study create`: a blinded study of runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localemp.cli.command import Command
from localemp.cli.completion import complete_runs
from localemp.cli.types import NAME, PATH
from localemp.utils.formatting import count
from localemp.utils.text import for_terminal, one_line

if TYPE_CHECKING:
    from localemp.studies.schema import Kind

_PATH = PATH


@click.command(cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=_PATH, shell_complete=complete_runs)
@click.option("--items", type=_PATH, help="JSON lines instead of runs: id, turns, replies (system: text).")
@click.option("--kind", type=click.Choice(["ab", "rating"]), show_default="ab; rating if only ratings are asked",
              help="Choose the better of two replies, or give each reply a number.")  # fmt: skip
@click.option("--preset", metavar="NAME", help="A study design: `paper` is that of the paper (docs/studies.md).")
@click.option("--sample", type=click.IntRange(min=1), show_default="100", help="Number of dialogues to sample.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Seed of the sample; blinding is always random.",
)
@click.option("--checks", type=click.IntRange(min=0), default=0, show_default=True, help="Attention checks to add.")
@click.option("--aspects", type=NAME, metavar="NAME|FILE",
              help="What is asked: `epitome`, or a questionnaire in the format of prompts/study.toml.")  # fmt: skip
@click.option("--title", help="Heading that raters see; must not reveal a system.")
@click.option("--out", type=_PATH, required=True, help="The study's folder.")
def create(
    runs: tuple[Path, ...],
    items: Path | None,
    kind: "Kind | None",
    preset: str | None,
    sample: int | None,
    seed: int,
    checks: int,
    aspects: str | None,
    title: str | None,
    out: Path,
) -> None:
    """Make a study of two or more runs: shared dialogues, blinded replies, shuffled orders.

    RUN is a run's folder; as NAME=RUN, results call it NAME. The key to the study (key.json) stays with you; raters
    never see it.
    """
    from localemp.cli.study.power import found
    from localemp.commands.study import create as create_study

    result = create_study(
        runs,
        out=out,
        items=items,
        kind=kind,
        preset=preset,
        sample=sample,
        seed=seed,
        checks=checks,
        aspects=aspects,
        title=title,
    )
    study = result.study
    replies = sum(len(item.replies) for item in study.items)
    names = ", ".join(aspect.name for aspect in study.manifest.aspects)
    rated = count(len(study.items) - len(study.key.checks), "item")
    checked = f" and {count(len(study.key.checks), 'attention check')}" if study.key.checks else ""
    click.echo(f"{rated}{checked}, {count(replies, 'reply', 'replies')}, seed {seed}; asked: {for_terminal(names)}")
    is_rating = study.manifest.kind == "rating"
    if people := study.manifest.annotators:
        by = f", ratings by {study.manifest.ratings_by}" if is_rating else ""
        click.echo(f"preset {for_terminal(study.manifest.preset)}: {count(people, 'annotator')}{by}")
    if result.finds:
        means = " if ratings are averaged" if is_rating and study.manifest.ratings_by == "majority" else ""
        click.echo(f"{found(result.finds)}{means} (`localemp study power` explains)")
    for note in result.notes:
        click.echo(f"note: {one_line(note)}", err=True)
    click.echo(f"study: {out}")
    click.echo(f"hint: `localemp study serve {out}` for people, `localemp study judge {out} --model M` for a model")
