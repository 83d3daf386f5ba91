"""Compare a judge whose answers are read from what it writes with the same judge whose answers have probabilities.

Both judge the same pairs in both orders on one engine, each way from an empty prefix cache, after some questions as a
warm-up. For each way:

    seconds      of the answers alone, without the engine's start
    unparsable   share of the answers that cannot be read
    flips        share of the pairs whose two orders disagree; a judge that guesses flips half of the time
    ties         share of the votes that are ties
    first shown  share of the choices that are for the reply shown first; 50 % is fair
    own reply    share of the votes, other than ties, for the reply that belongs to the conversation, where there is one
    confidence   mean probability of a vote, and `mass`, of the answers together: of probabilities only

There are two kinds of pairs of real replies: the reply that a person gave and one that another dialogue got, of which
the first is the better one; and with `--import` twice, those of two released systems to the same dialogues.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from judge import make_study
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.engines.base import Engine
from localemp.imports.reading import read_import
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import Tally
from localemp.pipeline.pipeline import Pipeline
from localemp.studies.judging.judge import Judge, JudgeLog, Question, questions
from localemp.studies.judging.prompts import FILES, Answers, JudgePrompts
from localemp.studies.judging.verdicts import JudgeStats, read_judge, read_stats
from localemp.studies.schema import TIE
from localemp.studies.study import Study
from localemp.utils.machine import machine

WARM_UP = 8  # questions


@click.command(cls=Script)
@data_option
@click.option("--import", "imports", nargs=2, multiple=True, metavar="FORMAT FILE", help="A released system; twice.")
@click.option("--pairs", default=100, show_default=True)
@click.option("--aspect", "aspects", multiple=True, help="Only this one; may be repeated.")
@click.option("--model", default="smollm2", show_default=True)
@engine_args_option
@out_option
def main(
    data: str,
    imports: Sequence[tuple[str, str]],
    pairs: int,
    aspects: tuple[str, ...],
    model: str,
    engine_args: tuple[str, ...],
    out: Path | None,
) -> None:
    """Compare written answers of a judge with probabilities of them."""
    if len(imports) not in (0, 2):
        raise click.UsageError("--import: give two systems, or none")
    config = RunConfig(model=model, data=data, engine_args=parse_engine_args(engine_args))
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(config, imports, pairs, aspects, Path(folder)))
    write_result(out, result)
    print_result(result)


async def measure(
    config: RunConfig, imports: Sequence[tuple[str, str]], pairs: int, aspects: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Judge each study both ways; see the module's docstring for the values."""
    pipeline = Pipeline(config)
    dialogues = [each for each in load_dialogues(config.data, "test") if each.reference]
    studies = {"own and another's": make_study(folder / "own", dialogues[:pairs])}
    if imports:
        names = " and ".join(form for form, _ in imports)
        studies[names] = study_of_systems(folder / "systems", imports, config.data, dialogues, pairs)
    ways: dict[tuple[str, Answers], tuple[Judge, list[Question]]] = {}
    for name, study in studies.items():
        asked = [each for each in questions(study) if not aspects or each.aspect in aspects]
        for answers in FILES:
            ways[name, answers] = Judge(study, JudgePrompts.read(answers=answers), pipeline.sampling), asked
    context = max([await judge.plan(asked, pipeline.planner()) for judge, asked in ways.values()])
    rows = []
    async with pipeline.engine(context) as engine:
        for number, (judge, asked) in enumerate(ways.values()):
            await judge_all(judge, asked[:WARM_UP], engine, folder / f"warm-up-{number}")
        for number, ((name, answers), (judge, asked)) in enumerate(ways.items()):
            await engine.reset_prefix_cache()
            answered = folder / f"judge-{number}"
            tally = await judge_all(judge, asked, engine, answered)
            right = {reply.key for item in judge.study.items for reply in item.replies[:1]}
            row: dict[str, Any] = {"pairs": name, "answers": answers, **figures(read_stats(answered), tally)}
            rows.append(row | votes_of(answered, right if name.startswith("own") else set()))
        described = engine.describe()
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "engine": described,
        "settings": {"model": config.model, "pairs": pairs, "aspects": list(aspects) or "all"},
        "rows": rows,
    }


def study_of_systems(
    folder: Path, imports: Sequence[tuple[str, str]], data: str, dialogues: Sequence[Dialogue], pairs: int
) -> Study:
    """The replies of two systems to the same dialogues, the first where they differ."""
    one, other = (
        {item.id: item.text for item in read_import(form, Path(file), data).replies.items} for form, file in imports
    )
    shown = [each for each in dialogues if one.get(each.id) and other.get(each.id) and one[each.id] != other[each.id]]
    return make_study(folder, shown[:pairs], [(one[each.id], other[each.id]) for each in shown[:pairs]])


async def judge_all(judge: Judge, asked: Sequence[Question], engine: Engine, folder: Path) -> Tally:
    """Answers, as `localemp study judge` gets them."""
    with JudgeLog.open(folder, judge.describe() | {"model": "benchmark"}) as answers:
        return await judge.ask_all(asked, engine, answers)


def figures(stats: JudgeStats, tally: Tally) -> dict[str, float | None]:
    """What is known of the answers of one way."""
    return {
        "number": stats.answers,
        "seconds": tally.seconds,
        "answers_per_s": tally.done / tally.seconds,
        "reply_tokens": tally.completion_tokens,
        "unparsable": stats.unparsable_share,
        "votes": stats.votes,
        "flips": stats.flip_rate,
        "first_shown": stats.first_share,
        "first_shown_probability": stats.first_probability,
        "confidence": stats.confidence,
        "mass": stats.mass,
    }


def votes_of(folder: Path, right: set[str]) -> dict[str, float | None]:
    """What is known of the votes of one way; `right` has the better replies, if they are known."""
    values = [vote.value for vote in read_judge(folder)]
    chosen = [value for value in values if value != TIE]
    own = sum(value in right for value in chosen) / len(chosen) if right and chosen else None
    return {"ties": 1 - len(chosen) / len(values) if values else None, "own_reply": own, "choices": len(chosen)}


def print_result(result: dict[str, Any]) -> None:
    """A row for each way."""
    shares = (
        "unparsable",
        "flips",
        "ties",
        "first_shown",
        "own_reply",
        "first_shown_probability",
        "confidence",
        "mass",
    )
    settings = result["settings"]
    table = Table(title=f"{settings['model']}, {settings['pairs']} pairs, aspects: {settings['aspects']}")
    for column in ("pairs", "answers", "number", "seconds", *(name.replace("_", " ") for name in shares)):
        table.add_column(column)
    for row in result["rows"]:
        told = ("" if row[name] is None else f"{row[name]:.1%}" for name in shares)
        table.add_row(row["pairs"], row["answers"], str(row["number"]),
                      f"{row['seconds']:.1f}", *told)  # fmt: skip
    console = Console(width=200)
    console.print(table)
    console.print(json.dumps(result["engine"]), soft_wrap=True)


if __name__ == "__main__":
    main()
