"""`localemp study calibrate`: how far judges can be trusted, measured on replies that people rated."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import Command
from localemp.cli.interrupts import resumable
from localemp.cli.options import budget_option, config_of, engine_options
from localemp.cli.study.importing import columns_of
from localemp.cli.study.judge import say_outcome
from localemp.cli.tables import echo_written, print_tables, table_options
from localemp.cli.types import NAME, PATH
from localemp.utils.text import json_text, one_line

if TYPE_CHECKING:
    from localemp.studies.judging.prompts import Answers
    from localemp.studies.schema import Kind


@click.command(cls=Command)
@click.argument("study", type=PATH, required=False)
@click.option("--judge", "judges", type=NAME, multiple=True, metavar="MODEL",
              help="A judge, as --model elsewhere; may be repeated: all options hold for every judge.")  # fmt: skip
@click.option("--ratings", type=PATH,
              help="People's ratings: EmPO's folder, or a file with columns rater, dialogue, system, and aspect and "
              "value or one column for each aspect.")  # fmt: skip
@click.option("--items", type=PATH, help="The rated replies, JSON lines: id, turns, replies (system: text).")
@click.option("--kind", type=click.Choice(["ab", "rating"]), show_default="ab",
              help="Compare two replies of a dialogue, or give each reply a number.")  # fmt: skip
@click.option("--aspect", "chosen", multiple=True, metavar="NAME",
              help="Ask about this aspect; may be repeated. By default all that people rated.")  # fmt: skip
@click.option(
    "--aspects",
    type=NAME,
    metavar="NAME|FILE",
    help="What people were asked and their scale: a bundled questionnaire, or a file like prompts/study.toml.",
)
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Map a column or aspect (ours) to a column of the ratings (theirs); may be repeated.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=1), show_default="100", help="Number of dialogues to sample.")
@click.option("--out", type=PATH, help="The study's folder; by default one in studies/, named after the ratings.")
@click.option(
    "--own",
    multiple=True,
    metavar="SYSTEM",
    help="A system that the judge's own model wrote; may be repeated. By default those of the judge's family.",
)
@engine_options
@click.option("--votes", type=click.IntRange(min=1), default=1, show_default=True,
              help="How often to ask each question; more than once needs a --temperature above 0.")  # fmt: skip
@click.option("--prompts", type=NAME, metavar="NAME|FILE",
              help="What judges are asked: a protocol's name, or a file like prompts/judge.toml.")  # fmt: skip
@click.option("--answers", type=click.Choice(["probabilities", "written"]),
              help="Whether the probability of each answer counts, or what the model writes.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Judge only the first N items.")
@budget_option
@click.option("--resamples", type=click.IntRange(min=100), default=2000, show_default=True,
              help="Bootstrap samples of dialogues for each interval.")  # fmt: skip
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print all results as JSON, unrounded.")
def calibrate(
    study: Path | None,
    judges: tuple[str, ...],
    ratings: Path | None,
    items: Path | None,
    kind: "Kind | None",
    chosen: tuple[str, ...],
    aspects: str | None,
    columns: tuple[str, ...],
    sample: int | None,
    out: Path | None,
    own: tuple[str, ...],
    votes: int,
    prompts: str | None,
    answers: "Answers | None",
    limit: int | None,
    budget: float | None,
    resamples: int,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure judges on replies that people rated: bias, agreement with people, leniency, corrected win rates.

    Without STUDY, one is made of --ratings. STUDY is a study that people answered; its judges' answers are used, and
    those of --judge that are missing are asked. --seed also draws the dialogues and the bootstrap. Answers are saved as
    they arrive. Ctrl-C stops; rerun the same command to resume.
    """
    from localemp.cli.display import Display
    from localemp.commands.study import calibrate as calibrate_judges
    from localemp.errors import LocalempError

    config = config_of(options)
    with Display() as display, resumable(display.say):
        result = calibrate_judges(
            study,
            config,
            judge=judges,
            ratings=ratings,
            items=items,
            kind=kind,
            aspect=chosen,
            aspects=aspects,
            column=columns_of(columns),
            sample=sample,
            out=out,
            own=own or None,
            votes=votes,
            prompts=prompts,
            answers=answers,
            limit=limit,
            budget=budget,
            resamples=resamples,
            markdown=None if as_json else markdown,
            latex=None if as_json else latex,
            csv=None if as_json else csv,
            on_progress=display.on_progress,
        )
    for note in result.notes:
        click.echo(f"note: {one_line(note, 400)}", err=True)
    stopped = [each for each in result.judges.values() if isinstance(each, LocalempError) or each.failed]
    if as_json:
        click.echo(json_text(result.results.as_dict(), indent=2))
    else:
        for judge, outcome in result.judges.items():
            say_outcome(judge, outcome)
        click.echo(f"study: {result.study.folder}\n")
        echo_written(result.written)
        if not result.written:
            print_tables(result.tables)
            click.echo(f"intervals over dialogues: {resamples:,} samples, seed {config.seed}; --json has the versions")
    if stopped:
        sys.exit(1)
