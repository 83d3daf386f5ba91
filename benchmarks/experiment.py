"""A whole experiment on one warm engine, against the two ways of doing without it, in one run.

    ours        `localemp.experiment` with the plan, without the scores and the report at its end
    commands    (a) one `localemp generate` for each row, one after the other, each with its own engine
    bare        (b) the same prompts through `vllm.LLM.chat` on one warm engine: row by row, two-stage rows by stage

Each side is a process of its own, so that one engine holds memory at a time, and the sides take turns. (a) is compared
by the wall clock of whole processes. (b) is compared by the time of answering, ours from the first call to the last
answer, the bare side's the sum of its passes, both on an engine that has just started. Engine starts and planning then
count on neither side, and lookups only where ours has them beside the first answers: the bare side takes its prompts
from the experiment's records, those of second stages included. It keeps its prefix cache from pass to pass. What a
machine looks up only once (weights, embeddings of the pool, COMET's inferences) is there before the first repeat.

Batch order changes the last digits of a model's numbers, and with them some replies: those that differ are counted.
"""

import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from script import Script, engine_args_option, out_option, write_result

import localemp
from localemp.bench.dummy import dummy_config
from localemp.cli.options import parse_engine_args
from localemp.engines.vllm.process import cpu_defaults
from localemp.experiments.expand import expand
from localemp.experiments.plan import Plan, read_plan
from localemp.experiments.rows import ExperimentRow
from localemp.experiments.steps import After
from localemp.models.profiles import load_profile
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import draft_all
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import read_manifest, read_records
from localemp.utils.machine import machine, versions
from localemp.utils.redirect import output_to

T = TypeVar("T")
AIMS = {"commands": 0.45, "bare": 0.97}
# Options of `generate` that are not named after their settings.
FLAGS = {"list_labels": {True: "--labels", False: "--no-labels"}, "keep_thinking": {True: "--keep-thinking"}}


@dataclass(frozen=True, slots=True)
class Work:
    """What all sides do.

    Attributes:
        plan: A bundled plan or a TOML file.
        settings: Settings for all rows.
        split, limit: The dialogues.
    """

    plan: str
    settings: dict[str, Any]
    split: str
    limit: int

    def read(self) -> Plan:
        """The plan without steps after the replies."""
        return read_plan(self.plan).model_copy(update={"after": After(score=None, report=None)})

    def rows(self) -> tuple[ExperimentRow, ...]:
        """The rows of the plan."""
        settings = {name: value for name, value in self.settings.items() if name not in ("model", "data")}
        plan, model, data = self.read(), self.settings["model"], self.settings["data"]
        return expand(plan, [model], settings, data=data, split=self.split, limit=self.limit)


@click.command(cls=Script)
@click.option("--plan", default="paper", show_default=True, help="A bundled plan or a TOML file.")
@click.option("--data", default="bundled", show_default=True, help="A folder with EmpatheticDialogues, or any --data.")
@click.option("--pool", default="bundled", show_default=True, help="Exemplars; '' for the data's training split.")
@click.option("--encoder", help="Of similar exemplars; by default localemp's.")
@click.option("--comet", help="Of knowledge; by default localemp's.")
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", default=64, show_default=True)
@click.option("--model", default="smollm2", show_default=True)
@click.option("--max-tokens", type=int, help="Of a reply; by default the model's.")
@click.option("--repeats", default=1, show_default=True)
@click.option("--without", multiple=True, type=click.Choice([*AIMS]), help="Leave a side out; may be repeated.")
@engine_args_option
@click.option("--load-format", type=click.Choice(["auto", "dummy"]), default="auto", show_default=True)
@click.option("--small", is_flag=True, help="A quick try: 8 dialogues, 16 tokens a reply.")
@out_option
def main(
    plan: str,
    data: str,
    pool: str,
    encoder: str | None,
    comet: str | None,
    split: str,
    count: int,
    model: str,
    max_tokens: int | None,
    repeats: int,
    without: tuple[str, ...],
    engine_args: tuple[str, ...],
    load_format: str,
    small: bool,
    out: Path | None,
) -> None:
    """Measure an experiment against single commands and bare vLLM."""
    if small:
        count, max_tokens = 8, 16
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(model=model, engine_args=parse_engine_args(engine_args))
        config = dummy_config(config, Path(folder)) if load_format == "dummy" else config
        settings: dict[str, Any] = {"model": config.model, "data": data}
        chosen: dict[str, Any] = {"pool": pool, "encoder": encoder, "comet": comet}
        chosen |= {"max_tokens": max_tokens, "engine_args": dict(config.engine_args)}
        work = Work(plan, settings | {name: value for name, value in chosen.items() if value}, split, count)
        result = measure(work, repeats, [side for side in AIMS if side not in without], Path(folder))
    write_result(out, result)
    print_result(result)


def measure(work: Work, repeats: int, sides: Sequence[str], folder: Path) -> dict[str, Any]:
    """All sides in turn; see the module's docstring for the values."""
    ids = in_process(prepare, work)
    figures: dict[str, list[float]] = {}
    differ: dict[str, int] = {}
    session: dict[str, Any] = {}
    for repeat in range(repeats):
        value, seconds = timed(in_process, ours, work, folder / f"experiment-{repeat}")
        figures.setdefault("ours_s", []).append(seconds)
        figures.setdefault("ours_answering_s", []).append(value["answering_s"])
        runs = [Path(run) for run in value["runs"]]
        session = read_manifest(runs[0])["sessions"][-1]
        for side in sides if repeat % 2 == 0 else sides[::-1]:
            if side == "commands":
                singles, seconds = timed(commands, work, folder / f"commands-{repeat}")
                figures.setdefault("commands_s", []).append(seconds)
                differ["commands"] = sum(map(different, runs, singles))
            else:
                bare = in_process(bare_passes, work, runs, ids, folder / f"bare-{repeat}.log")
                figures.setdefault("bare_answering_s", []).append(sum(bare["seconds"]))
                differ["bare"] = bare["differ"]
    ratios = {}
    for side, theirs, mine in (
        ("commands", "commands_s", "ours_s"),
        ("bare", "bare_answering_s", "ours_answering_s"),
    ):
        if side in sides:
            ratios[side] = [a / b for a, b in zip(figures[mine], figures[theirs], strict=True)]
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "versions": versions(),
        "engine_args": session["engine_args"],
        "settings": work.settings | {"plan": work.plan, "split": work.split, "dialogues": len(ids), "repeats": repeats},
        "replies": len(ids) * len(work.rows()),
        "figures": figures,
        "ratios": ratios,
        "different_replies": differ,
    }


def in_process(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a new process, as a command would run."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def timed(function: Callable[..., T], *args: Any) -> tuple[T, float]:
    """The result of a call, and its seconds."""
    started = time.perf_counter()
    return function(*args), time.perf_counter() - started


def prepare(work: Work) -> list[str]:
    """Look everything up once, and return the ids of the dialogues, in order."""
    rows = work.rows()
    first = Pipeline(rows[0].config)
    batches = [Batch(first.sharing(row.config), row.split, row.subset) for row in rows]
    for batch in batches:
        asyncio.run(draft_all(batch.pipeline.strategy, batch.chosen))
    return [dialogue.id for dialogue in batches[0].chosen]


def ours(work: Work, place: Path) -> dict[str, Any]:
    """The experiment: its runs in the order of the rows, and the seconds of answering."""
    model, data = work.settings["model"], work.settings["data"]
    settings: Any = {name: value for name, value in work.settings.items() if name not in ("model", "data")}
    result = localemp.experiment(
        work.read(), models=[model], data=data, split=work.split, limit=work.limit, out=place, **settings
    )
    if not result.complete:
        raise click.ClickException(f"not everything was answered: {result.rows}")
    tallies = [row.tally for row in result.rows if row.tally is not None]
    ended = max(tally.ended or 0.0 for tally in tallies)
    return {"answering_s": ended - min(tally.started for tally in tallies), "runs": [row.folder for row in result.rows]}


def commands(work: Work, folder: Path) -> list[Path]:
    """One `localemp generate` for each row."""
    runs = []
    for number, row in enumerate(work.rows()):
        runs.append(folder / str(number))
        command = [sys.executable, "-m", "localemp.cli.main", "generate", *options(row), "--out", str(runs[-1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
    return runs


def options(row: ExperimentRow) -> list[str]:
    """The options of `generate` for a row."""
    usual, chosen = RunConfig(), dict(row.config.options)
    chosen |= {each.name: getattr(row.config, each.name) for each in fields(RunConfig) if each.name != "options"}
    arguments = ["--split", row.split, "--limit", str(row.subset.limit)]
    for name, value in chosen.items():
        flag = f"--{name.replace('_', '-')}"
        if value == getattr(usual, name):
            continue
        if name in FLAGS:
            arguments.append(FLAGS[name][value])
        elif name == "engine_args":
            for key, setting in value.items():
                arguments += ["--engine-arg", f"{key}={setting if isinstance(setting, str) else json.dumps(setting)}"]
        elif name == "shot_indices":
            arguments += [flag, ",".join(map(str, value))]
        else:
            for one in value if isinstance(value, tuple) else [value]:
                arguments += [flag, str(one)]
    return arguments


def bare_passes(work: Work, runs: Sequence[Path], ids: Sequence[str], log: Path) -> dict[str, Any]:
    """The prompts of the runs through `vllm.LLM.chat`: the seconds of each pass, and how many replies differ."""
    session = read_manifest(runs[0])["sessions"][-1]
    if session["platform"] == "cpu":
        cpu_defaults()  # the cores that vLLM uses
    weights = Pipeline(work.rows()[0].config).weights.folder
    template = load_profile(work.settings["model"]).chat_template_kwargs
    with output_to(log):
        return _bare_passes(weights, session["engine_args"], template, runs, ids)


def _bare_passes(
    weights: Path, engine_args: dict[str, Any], template: Any, runs: Sequence[Path], ids: Sequence[str]
) -> dict[str, Any]:
    from localemp.engines.vllm.names import LLM, SamplingParams

    llm = LLM(model=str(weights), **engine_args)

    def chat(prompts: list[Any], sampling: dict[str, Any]) -> list[str]:
        params = SamplingParams(**sampling)
        outputs = llm.chat(prompts, params, use_tqdm=False, chat_template_kwargs=template)
        return [output.outputs[0].text for output in outputs]

    seconds, differ = [], 0
    try:
        chat([[{"role": "user", "content": "Hello"}]], {"max_tokens": 1})  # loads the rest of the frontend
        llm.reset_prefix_cache()
        for run in runs:
            records = {record["id"]: record for record in read_records(run)}
            sampling = read_manifest(run)["settings"]["sampling"]
            dialogues = [records[name] for name in ids]
            for stage in range(len(dialogues[0]["stages"])):
                stages = [record["stages"][stage] for record in dialogues]
                texts, lasted = timed(chat, [each["messages"] for each in stages], sampling)
                seconds.append(lasted)
            differ += sum(text != each["text"] for text, each in zip(texts, stages, strict=True))
    finally:
        llm.llm_engine.engine_core.shutdown()  # or the end of this process would wait for the engine's
    return {"seconds": seconds, "differ": differ}


def different(run: Path, other: Path) -> int:
    """How many replies of two runs differ."""
    one, two = ({record["id"]: record.get("reply") for record in read_records(each)} for each in (run, other))
    return sum(reply != two.get(name) for name, reply in one.items())


def print_result(result: dict[str, Any]) -> None:
    """The table that matters."""
    figures, settings = result["figures"], result["settings"]
    table = Table(title=f"{settings['plan']}, {settings['model']}: {result['replies']:,} replies")
    for column in ("against", "localemp, s", "other, s", "ratio: median (min to max)", "aim", "replies that differ"):
        table.add_column(column)
    for side, values in result["ratios"].items():
        about, mine = {
            "commands": ("(a) one generate a row, whole wall clock", "ours_s"),
            "bare": ("(b) LLM.chat row by row, answering", "ours_answering_s"),
        }[side]
        theirs = figures["commands_s" if side == "commands" else "bare_answering_s"]
        table.add_row(
            about,
            f"{statistics.median(figures[mine]):.1f}",
            f"{statistics.median(theirs):.1f}",
            f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})",
            f"at most {AIMS[side]}",
            f"{result['different_replies'][side]} of {result['replies']}",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print("Replies differ where batch order changes the last digits of a model's numbers.")
    for name in ("settings", "engine_args", "versions", "machine"):
        console.print(f"{name}: {json.dumps(result[name])}", soft_wrap=True)


if __name__ == "__main__":
    main()
