"""Memory of localemp's own process, and its time for drafting and planning, with all rows of a plan on a whole split.

Everything is in the process that an experiment has there: drafts, tokenizer, encoder, COMET, open runs, and vLLM's
frontend. Only the engine is not: one of this file's own tokenizes each prompt and answers it at once, so what is
measured is localemp and not a model. The time that encoder and COMET take for lookups is given by itself.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result

import localemp
from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.registry import EngineContext, register_engine
from localemp.engines.tokens import PromptTokenizer
from localemp.experiments.plan import read_plan
from localemp.experiments.steps import After
from localemp.sampling import Sampling
from localemp.utils.machine import machine, versions
from localemp.utils.paths import resource
from localemp.utils.progress import Progress

MOST_SECONDS, MOST_MB = 60, 2_000
REPLY = "I am so sorry to hear that. It must have been very hard for you. Do you want to talk about it? "


class InstantEngine(Engine):
    """Tokenizes as vLLM's engine does, and answers at once; vLLM's frontend is imported and not used."""

    name = "instant"
    concurrency = 512

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        self.tokenizer = tokenizer

    async def start(self) -> None:
        """Import vLLM's frontend."""
        from localemp.engines.vllm.names import AsyncLLM  # noqa: F401

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The same reply every time."""
        return Completion(REPLY, "stop", len(self.tokenizer.encode(messages)), 25, 0)

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"engine": self.name}


@dataclass(slots=True)
class Phases:
    """Memory and time of a process by task, taken from the progress that it reports.

    Attributes:
        memory: The largest resident memory seen in each task, in MB.
        wall: Seconds of each task and row, by the clock.
        cpu: The same on processors, of this process.
    """

    memory: dict[str, int] = field(default_factory=dict)
    wall: dict[tuple[str, str], float] = field(default_factory=dict)
    cpu: dict[tuple[str, str], float] = field(default_factory=dict)
    _last: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.process_time()))
    _reports: int = 0

    def __call__(self, progress: Progress) -> None:
        """Take in a report: the time since the last one belongs to its task and row."""
        task, now = (progress.task, progress.row), (time.perf_counter(), time.process_time())
        self.wall[task] = self.wall.get(task, 0.0) + now[0] - self._last[0]
        self.cpu[task] = self.cpu.get(task, 0.0) + now[1] - self._last[1]
        self._last = now
        self._reports += 1
        if progress.task not in self.memory or self._reports % 100 == 0:
            self.memory[progress.task] = max(self.memory.get(progress.task, 0), resident())

    def total(self, seconds: dict[tuple[str, str], float], task: str, rows: Sequence[str] | None = None) -> float:
        """The seconds of a task, in all rows or in some."""
        return sum(value for (name, row), value in seconds.items() if name == task and (rows is None or row in rows))


def resident(kind: str = "VmRSS") -> int:
    """Resident memory of this process in MB (10**6 bytes), now ("VmRSS") or at most so far ("VmHWM")."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) * 1024 // 10**6


@click.command(cls=Script)
@click.option("--plan", "name", default="paper", show_default=True, help="A bundled plan or a TOML file.")
@click.option("--data", default="bundled", show_default=True, help="A folder with EmpatheticDialogues, or any --data.")
@click.option("--pool", default="bundled", show_default=True, help="Exemplars; '' for the data's training split.")
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "limit", type=int, help="By default all.")
@click.option("--model", default="smollm2", show_default=True, help="A model that has a profile in models/.")
@out_option
def main(name: str, data: str, pool: str, split: str, limit: int | None, model: str, out: Path | None) -> None:
    """Measure memory, drafting and planning of an experiment."""
    register_engine("instant", lambda context: _make(context))
    plan = read_plan(name).model_copy(update={"after": After(score=None, report=None)})
    phases = Phases()
    settings: Any = {"pool": pool} if pool else {}
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / f"{model}.toml"
        text = resource("models", f"{model}.toml").read_text("utf-8")
        profile.write_text(text.replace('engine = "vllm"', 'engine = "instant"'), "utf-8")
        result: Any = localemp.experiment(
            plan,
            models=[str(profile)],
            data=data,
            split=split,
            limit=limit,
            out=Path(folder) / "experiment",
            on_progress=phases,
            **settings,
        )
        if not result.complete:
            raise click.ClickException(f"not everything was answered: {result.rows}")
    rows = result.rows
    looking = [each.row.name for each in rows if {"similar", "knowledge"} & set(each.row.config.strategy.split("+"))]
    plain = [each.row.name for each in rows if each.row.name not in looking]
    own = {
        kind: phases.total(seconds, "Looking up", plain) + phases.total(seconds, "Measuring")
        for kind, seconds in (("wall", phases.wall), ("cpu", phases.cpu))
    }
    result = {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "versions": versions(),
        "settings": {"plan": name, "data": data, "pool": pool, "split": split, "model": model},
        "rows": len(rows),
        "replies": sum(each.answered for each in rows),
        "calls": sum(each.tally.calls for each in rows if each.tally is not None),
        "most_memory_mb": resident("VmHWM"),
        "memory_mb": phases.memory,
        "draft_and_plan_s": own,
        "lookups_s": phases.total(phases.wall, "Looking up", looking),
        "answering_cpu_s": phases.total(phases.cpu, "Answering"),
        "by_row_s": {f"{task}: {row}": seconds for (task, row), seconds in phases.wall.items()},
    }
    write_result(out, result)
    print_result(result)


def _make(context: EngineContext) -> Engine:
    return InstantEngine(context.tokenizer())


def print_result(result: dict[str, Any]) -> None:
    """The figures with their aims."""
    table = Table(title=f"{result['rows']} rows, {result['replies']:,} replies, {result['calls']:,} calls")
    for column in ("", "measured", "aim"):
        table.add_column(column)
    own = result["draft_and_plan_s"]
    for task, memory in result["memory_mb"].items():
        table.add_row(f"memory, {task}", f"{memory:,} MB", "")
    table.add_row("memory, most", f"{result['most_memory_mb']:,} MB", f"under {MOST_MB:,}")
    table.add_row("drafting and planning, wall clock", f"{own['wall']:.1f} s", f"under {MOST_SECONDS}")
    table.add_row("drafting and planning, processor time", f"{own['cpu']:.1f} s", "")
    table.add_row("lookups of encoder and COMET, wall clock", f"{result['lookups_s']:.1f} s", "")
    table.add_row("localemp's part of answering, processor time", f"{result['answering_cpu_s']:.1f} s", "")
    console = Console()
    console.print(table)
    for name in ("settings", "versions", "machine"):
        console.print(f"{name}: {json.dumps(result[name])}", soft_wrap=True)


if __name__ == "__main__":
    main()
