"""`localemp study report`: means, preferences, agreement, and how a judge compares with people."""

from pathlib import Path

import click

from localemp.cli.command import Command
from localemp.cli.tables import echo_written, print_tables, published_option, table_options
from localemp.cli.types import PATH


@click.command(cls=Command, excludes=dict.fromkeys(("markdown", "latex", "csv"), ("as_json",)))
@click.argument("study", type=PATH)
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print all results as JSON, unrounded.")
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="Only this judge; may be repeated.")
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap samples of dialogues for each interval.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap.")
@published_option
@click.option("--drop-failed", is_flag=True, help="Leave out people who missed half or more of the attention checks.")
def report(
    study: Path,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
    as_json: bool,
    judges: tuple[str, ...],
    resamples: int,
    seed: int,
    published: str | None,
    drop_failed: bool,
) -> None:
    """Report means, preferences, agreement between people, and the correlation of judges with people.

    STUDY is a study's folder. Without an option that names a file, the tables are printed. `localemp report RUN...
    --study STUDY` puts the same tables beside the automatic metrics.
    """
    from localemp.commands.study import report as report_study
    from localemp.utils.text import json_text

    result = report_study(
        study,
        markdown=markdown,
        latex=latex,
        csv=csv,
        judge=judges,
        resamples=resamples,
        seed=seed,
        published=published,
        drop_failed=drop_failed,
    )
    if as_json:
        click.echo(json_text(result.results.as_dict(), indent=2))
        return
    echo_written(result.written)
    if not result.written:
        print_tables(result.tables)
        click.echo(f"intervals over dialogues: {resamples:,} samples, seed {seed}; --json has the versions")
