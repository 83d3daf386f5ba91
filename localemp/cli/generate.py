"""`localemp generate`: a whole data set through a strategy, into a run."""

import asyncio
import sys
import time
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.options import cluster_options, config_of, data_options, model_options, strategy_options
from localemp.cli.words import count, known

if TYPE_CHECKING:
    from localemp.cli.display import Display
    from localemp.dialogue import Dialogue
    from localemp.pipeline.generate import Tally
    from localemp.pipeline.pipeline import Pipeline
    from localemp.runs.run import Run


@click.command()
@model_options
@strategy_options
@data_options
@cluster_options
@click.option("--limit", type=click.IntRange(min=1), help="Only so many dialogues from the start.")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; a name from the settings by default.")
@click.option("--retry-errors", is_flag=True, help="Ask again for dialogues that failed before.")
@click.option("--show", type=click.IntRange(min=0), default=3, show_default=True, help="Replies to show at the end.")
def generate(
    limit: int | None,
    out: Path | None,
    retry_errors: bool,
    show: int,
    split: str,
    address: str | None,
    actors: int | None,
    **options: Any,
) -> None:
    """Answer every dialogue of a data set.

    Replies are kept as they finish. Ctrl-C stops; the same command goes on where it stopped.
    """
    from localemp.cli.display import Display
    from localemp.cli.replies import print_replies
    from localemp.data.sources import load_dialogues
    from localemp.errors import FatalEngineError, OptionError, RunError
    from localemp.pipeline.pipeline import Pipeline
    from localemp.runs.run import Run, newest, read_lines

    config = config_of(options)
    _check_cluster_options(address, actors)
    with Display() as display:
        dialogues = load_dialogues(config.data, split, config.instances)
        pipeline = Pipeline(config, display.on_progress)
        display.note_shut_down(pipeline.profile)
        if address is not None and not pipeline.runs_here and config.script is None:
            raise OptionError("--ray is for models that run on the cluster, and a server answers here", "leave one out")
        settings = pipeline.settings(dialogues, split)
        folder = out or default_folder(settings)
        chosen = dialogues[:limit]
        for dialogue in chosen:
            pipeline.strategy.check(dialogue)
        with Run.open(folder, settings) as run:
            pending = [
                dialogue
                for dialogue in chosen
                if dialogue.id not in run.answered and (retry_errors or dialogue.id not in run.failed)
            ]
            before = sum(dialogue.id in run.answered for dialogue in chosen)
            left_out = len(chosen) - len(pending) - before
            if before or left_out:
                failures = f", {left_out} failed before (--retry-errors asks again)" if left_out else ""
                display.say(f"{before} of {len(chosen)} are done already{failures}")
            tally = None
            if pending:
                try:
                    if address is None:
                        tally = asyncio.run(_answer(pipeline, pending, len(chosen), run, display))
                    else:
                        where = address, actors
                        tally = _answer_on_cluster(pipeline, settings, pending, len(chosen), run, display, where)
                except (KeyboardInterrupt, FatalEngineError, RunError) as stop:
                    done = sum(dialogue.id in run.answered for dialogue in chosen)
                    display.say(f"stopped: {done} of {count(len(chosen), 'reply', 'replies')} are in {folder}")
                    if not isinstance(stop, KeyboardInterrupt):
                        raise
                    display.say("next: the same command goes on from here")
                    raise click.exceptions.Exit(130) from None
            answered = [dialogue.id for dialogue in chosen if dialogue.id in run.answered]
            failed = sum(dialogue.id in run.failed for dialogue in chosen)
    shown = set(answered[:show])
    kept = {record["id"]: record for record in newest(line for line in read_lines(folder) if line[1]["id"] in shown)}
    print_replies([kept[name] for name in answered[:show]], f"{config.model}, {pipeline.strategy.name}")
    _summary(tally, len(answered), failed, folder)
    if failed:
        sys.exit(1)


def default_folder(settings: dict[str, Any]) -> Path:
    """`runs/MODEL-STRATEGY-HASH`: the same settings give the same folder, so that the same command goes on."""
    import hashlib
    import json
    import re

    from localemp.utils.files import is_folder
    from localemp.utils.redaction import redact_settings

    model = re.sub(r"[^\w.]+", "-", str(settings["model"]))
    folders = []
    # A key that is changed makes no other run; older versions took it for a setting like any other.
    for named_by in (settings, redact_settings(settings)):
        digest = hashlib.sha256(json.dumps(named_by, sort_keys=True).encode()).hexdigest()[:8]
        folders.append(Path("runs") / f"{model}-{settings['strategy']}-{digest}")
    return next(filter(is_folder, folders), folders[-1])


async def _answer(
    pipeline: "Pipeline", pending: "list[Dialogue]", chosen: int, run: "Run", display: "Display"
) -> "Tally":
    from localemp.pipeline.generate import answer_all, draft_all, plan

    strategy = pipeline.strategy
    drafts = await draft_all(strategy, pending, display.on_progress)
    notes = list(strategy.notes().values())
    for note in notes:
        display.say(f"note: {note}")
    context = None
    if pipeline.runs_here:
        planner = pipeline.planner()
        context = await plan(strategy, drafts, planner, display.on_progress)
    engine = pipeline.engine(context, run.folder / "engine.log")
    with display.clock(f"Starting {engine.name} ({pipeline.profile.name})"):
        await engine.start()
    try:
        run.add_session(_session(chosen, {**engine.describe(), **({"notes": notes} if notes else {})}))
        return await answer_all(strategy, drafts, engine, run, display.on_progress)
    finally:
        await engine.close()


def _answer_on_cluster(
    pipeline: "Pipeline",
    settings: dict[str, Any],
    pending: "list[Dialogue]",
    chosen: int,
    run: "Run",
    display: "Display",
    where: tuple[str, int | None],
) -> "Tally":
    from localemp.pipeline.generate import Tally
    from localemp.pipeline.ray_cluster import Cluster

    address, actors = where
    with Cluster(address, run.folder / "ray.log") as cluster, ExitStack() as stack:
        actors = min(actors or cluster.actors_for(pipeline.config), len(pending))
        answers = stack.enter_context(closing(cluster.answers(pipeline, settings, pending, actors)))
        with display.clock(f"Starting {count(actors, 'engine')} on Ray ({pipeline.profile.name})"):
            first = next(answers)
        tally = Tally(len(pending), started=time.perf_counter() - first.seconds)
        who: list[str] = []
        left = {dialogue.id for dialogue in pending}
        for share in chain([first], answers):
            if share.engine and not who:
                run.add_session(_session(chosen, {**share.engine, **cluster.describe(), "actors": actors}))
            if share.engine and share.who not in who:
                who.append(share.who)
                run.change_session({"engines": who})
            for record in share.records:
                if record["id"] in left:  # what Ray repeated is written once
                    left.remove(record["id"])
                    run.append(record)
                    tally.add(record)
            display.on_progress(tally.progress())
            if share.stopped is not None:
                raise share.stopped
        tally.ended = time.perf_counter()
        return tally


def _check_cluster_options(address: str | None, actors: int | None) -> None:
    from localemp.errors import OptionError

    if actors is not None and address is None:
        raise OptionError("--actors says how many engines a Ray cluster runs", "add --ray ADDRESS, or leave it out")


def _session(dialogues: int, engine: dict[str, Any]) -> dict[str, Any]:
    """How many dialogues this session is to see answered, and who does it: command, versions, machine, engine."""
    from localemp.utils.machine import machine, versions
    from localemp.utils.redaction import shown_command

    command = shown_command()
    return {"command": command, "dialogues": dialogues, "versions": versions(), "machine": machine(), **engine}


def _summary(tally: "Tally | None", answered: int, failed: int, folder: Path) -> None:
    click.echo(f"{count(answered, 'reply', 'replies')}, {failed} failed")
    if tally is not None and tally.done:
        seconds = tally.seconds
        click.echo(
            f"this time: {count(tally.done, 'dialogue')} in {seconds:.1f} s, {tally.done / seconds:.2f} dialogues/s, "
            f"{known(tally.tokens_per_s)} tokens/s"
        )
        click.echo(f"tokens: {_tokens(tally)}")
        if tally.dropped:
            click.echo(f"exemplars were dropped from {tally.dropped} prompts that would not have fitted the context")
        if tally.cost:
            click.echo(f"cost: {tally.cost:.4f} US dollars")
    click.echo(f"run: {folder}")
    if failed:
        click.echo(f"next: `localemp runs show {folder} --errors` says why; --retry-errors asks again", err=True)


def _tokens(tally: "Tally") -> str:
    if tally.uncounted == tally.calls:
        return "unknown: the server does not count them"
    told = f"{tally.prompt_tokens} of prompts, {tally.completion_tokens} of replies"
    return f"{told}, without {tally.uncounted} of {tally.calls} calls that tell none" if tally.uncounted else told
