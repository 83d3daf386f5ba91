"""Hosted models against a service that fails, limits and bills: the fake of tests/hosted, in a process of its own.

    requests    10,000 different requests through the engine, while the service has a share of each fault (429 with and
                without Retry-After, 500, resets, hangs, cut answers), once for each kind of limit: how many are lost or
                paid twice, how far throughput stays below what the limits allow, and whether they were ever passed
    batches     a run of 5,255 made-up dialogues by `localemp generate --batch`, one- and two-stage, where some lines of
                each batch fail and are asked again: the memory of its process, and whether its bill is the service's

    python benchmarks/hosted.py                       # both, in half an hour
    python benchmarks/hosted.py --only requests --case strict --requests 2000

No real service is asked: the fake is written from OpenAI's documentation, and so are its limits. Its log says what it
received, answered and charged; nothing here is counted by localemp alone.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import OpenAIEngine
from localemp.errors import EngineError
from localemp.models.profiles import load_profile
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.utils.machine import machine, versions

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL, KEY = "gpt-4o-mini", "sk-fake"
MOST_MB, LEAST_RATIO = 300, 0.95
LINE_ERRORS = 0.02  # of a batch, at each attempt
MOST = 0.99  # of the requests, until which throughput is measured
SLICE = 10.0  # seconds of a row in the table of steering
_TEXT = (
    "I lost my job today after nine years and cannot tell my family yet because they were so proud of me when it began "
    "and now everything feels like it is falling apart while my dog still wags his tail at the door every evening"
)
WORDS = _TEXT.split()

Figure = tuple[str, Callable[[Mapping[str, Any]], str], str]
"""A row of a table: its name, its text by the result, and what it should be."""


@dataclass(frozen=True)
class Case:
    """Limits of the service, and what the engine has to learn from them.

    Attributes:
        says: In the table.
        requests, tokens: A minute; None for no limit.
        options: Further options of the fake.
    """

    says: str
    requests: float | None = None
    tokens: float | None = None
    options: tuple[str, ...] = ()

    @property
    def burst(self) -> float:
        """Seconds of the limits that may be spent at once."""
        return float(self.options[self.options.index("--burst") + 1]) if "--burst" in self.options else 60.0


CASES = {
    "requests": Case("requests a minute", requests=6_000),
    "tokens": Case("tokens a minute", requests=30_000, tokens=1_000_000),
    "strict": Case("requests a minute, held for every second", requests=6_000, options=("--burst", "1")),
    "windows": Case("requests a minute, all at its beginning", requests=6_000, options=("--refill", "window")),
    "daily": Case(
        "requests a minute, while the headers tell those of a day",
        requests=6_000,
        options=("--requests-per-day", "1000000"),
    ),
    "silent": Case("requests a minute, no headers that tell them", requests=6_000, options=("--headers", "none")),
}


class Fake:
    """The fake service in a process of its own."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hosted", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY / "tests",
            env=os.environ | {"PYTHONPATH": "."},
        )
        assert self._process.stdout is not None
        self._root = f"http://127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self._root}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def told(self, what: str) -> Any:
        """Its "summary" (counts and bill) or its "log"."""
        with urllib.request.urlopen(f"{self._root}/fake/{what}") as response:
            return json.load(response)


@click.command(cls=Script)
@click.option("--only", type=click.Choice(["requests", "batches"]), help="By default both.")
@click.option("--case", "cases", type=click.Choice([*CASES]), multiple=True, help="Kinds of limits; by default all.")
@click.option("--requests", "count", default=10_000, show_default=True)
@click.option("--share", default=0.05, show_default=True, help="Of each of the six faults.")
@click.option("--latency", default=0.3, show_default=True, help="Seconds that the service takes for an answer.")
@click.option("--dialogues", default=5_255, show_default=True)
@out_option
def main(
    only: str | None,
    cases: tuple[str, ...],
    count: int,
    share: float,
    latency: float,
    dialogues: int,
    out: Path | None,
) -> None:
    """Measure requests under limits and faults, and batches."""
    result: dict[str, Any] = {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "versions": versions(),
        "settings": {
            "model": MODEL,
            "requests": count,
            "share_of_each_fault": share,
            "latency_s": latency,
            "dialogues": dialogues,
        },
    }
    console = Console()
    if only != "batches":
        result["requests"] = {}
        for name in cases or CASES:
            result["requests"][name] = asyncio.run(measure(CASES[name], count, share, latency))
            print_steering(console, CASES[name], result["requests"][name])
            write_result(out, result)
        print_requests(console, result["requests"])
    if only != "requests":
        result["batches"] = {name: measure_batches(name, dialogues) for name in ("zero-shot", "two-stage")}
        print_batches(console, result["batches"])
    for name in ("settings", "versions", "machine"):
        console.print(f"{name}: {json.dumps(result[name])}", soft_wrap=True)
    write_result(out, result)


async def measure(case: Case, count: int, share: float, latency: float) -> dict[str, Any]:
    """Ask all requests at once, as a run does, and compare with the service's log."""
    options = ["--faults", str(share), "--latency", str(latency), *case.options]
    options += ["--requests", str(case.requests)] if case.requests else []
    options += ["--tokens", str(case.tokens)] if case.tokens else []
    price = load_profile(MODEL, "chat").price
    with Fake(*options) as fake:
        engine = OpenAIEngine(MODEL, fake.url, api_key=KEY, price=price)
        await engine.start()
        began = time.time()
        ends = await asyncio.gather(*(_ask(engine, text) for text in texts(count)))
        seconds = time.time() - began
        await engine.close()
        summary, log = fake.told("summary"), fake.told("log")
    asked = [each for each in log if each["path"] == "/v1/chat/completions"]
    completions = [each for each in ends if isinstance(each, Completion)]
    paid = sum(each.cost or 0.0 for each in completions)
    lost_by_service = sum(each["dollars"] for each in asked if each["fault"] == "cut")
    paced = pace(case, asked, began, count)
    return {
        "seconds": seconds,
        **paced,
        "failed": [str(each) for each in ends if not isinstance(each, Completion)],
        "answered": len(completions),
        "attempts": len(asked),
        "faults": summary["faults"],
        "let_in": sum(each["counted"] > 0 for each in asked),
        "over_the_limit": summary["refused_by_limit"],
        "answered_more_often": summary["answered_more_often"],
        "dollars": paid,
        "billed": summary["bill"]["dollars"],
        "billed_for_cut_answers": lost_by_service,
        "by_time": by_time(asked, began),
    }


async def _ask(engine: OpenAIEngine, text: str) -> Completion | EngineError:
    try:
        return await engine.chat([Message("user", text)], Sampling(max_tokens=128))
    except EngineError as error:
        return error


def texts(count: int) -> list[str]:
    """Different texts of 20 to 200 words."""
    draw = random.Random(0)
    return [f"{number}: {' '.join(draw.choices(WORDS, k=draw.randint(20, 200)))}" for number in range(count)]


def pace(case: Case, asked: Sequence[Mapping[str, Any]], began: float, count: int) -> dict[str, float]:
    """Throughput until 99 % of the requests are answered: then too few are left to fill the limits.

    "of_limits" divides what was let in by what the limits give in that time at their even rate. "of_all" adds what the
    service allows beyond it, a full bucket at the beginning: it cannot be above 1.
    """
    answered, let_in, tokens, end = 0, 0, 0, began
    for each in asked:
        answered += each["status"] == 200
        let_in += each["counted"] > 0
        tokens += each["counted"]
        end = each["at"]
        if answered >= MOST * count:
            break
    seconds = end - began
    full = {limit / 60: amount for limit, amount in ((case.requests, let_in), (case.tokens, tokens)) if limit}
    first = 60.0 if "window" in case.options else case.burst
    return {
        "seconds_to_99": seconds,
        "of_limits": max(amount / (rate * seconds) for rate, amount in full.items()),
        "of_all": max(amount / (rate * (seconds + first)) for rate, amount in full.items()),
    }


def by_time(asked: Sequence[Mapping[str, Any]], began: float) -> list[dict[str, float]]:
    """What came in every slice of time: attempts, those let in, over the limit, answered, and tokens, a second."""
    rows: list[dict[str, float]] = []
    for each in asked:
        place = int((each["at"] - began) / SLICE)
        while len(rows) <= place:
            rows.append(dict.fromkeys(("attempts", "let_in", "over_the_limit", "answered", "tokens"), 0.0))
        row = rows[place]
        row["attempts"] += 1 / SLICE
        row["let_in"] += (each["counted"] > 0) / SLICE
        row["tokens"] += each["counted"] / SLICE
        row["over_the_limit"] += each["refused_by_limit"] / SLICE
        row["answered"] += (each["status"] == 200) / SLICE
    return rows


def measure_batches(strategy: str, count: int) -> dict[str, Any]:
    """Run `localemp generate --batch` as a process, and compare its bill with the service's."""
    with tempfile.TemporaryDirectory() as folder, Fake("--pace", "{}", "--line-errors", str(LINE_ERRORS)) as fake:
        data, run = Path(folder) / "talks.jsonl", Path(folder) / "run"
        data.write_text("".join(json.dumps(talk) + "\n" for talk in talks(count)), "utf-8")
        command = [sys.executable, "-m", "localemp.cli.main", "generate", "--model", MODEL, "--batch"]
        command += ["--strategy", strategy, "--data", str(data), "--out", str(run)]
        told = os.environ | {"OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(REPOSITORY)}
        began = time.perf_counter()
        with (Path(folder) / "said").open("w+") as said:
            process = subprocess.Popen(command, env=told, stdout=said, stderr=said, cwd=folder)
            memory = _watch(process)
            said.seek(0)
            if process.returncode and not run.exists():
                raise click.ClickException(f"{' '.join(command)}: exit code {process.returncode}\n{said.read()}")
        seconds = time.perf_counter() - began
        records, bill = read_records(run), fake.told("summary")["bill"]
    stages = [stage for record in records for stage in record.get("stages", [])]
    return {
        "dialogues": len(records),
        "failed": [record["error"] for record in records if record.get("error")],
        "seconds": seconds,
        "memory_mb": memory,
        "requests": len(stages),
        "billed_requests": bill["requests"],
        "dollars": sum(stage["cost"] or 0.0 for stage in stages),
        "billed": bill["dollars"],
        "tiers": sorted({line["tier"] for line in bill["lines"]}),
    }


def talks(count: int) -> list[dict[str, Any]]:
    """Made-up talks of 1 to 7 turns of 8 to 25 words, each of which asks for one reply."""
    draw = random.Random(0)
    return [
        {
            "id": str(number),
            "emotion": draw.choice(["sad", "joyful", "afraid", "angry"]),
            "messages": [
                {"role": role, "content": " ".join(draw.choices(WORDS, k=draw.randint(8, 25)))}
                for role in ["user", *["assistant", "user"] * draw.randint(0, 3)]
            ],
        }
        for number in range(count)
    ]


def _watch(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; return the most memory that it had, in MB (10**6 bytes)."""
    most = 0
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM"):
                most = max(most, int(line.split()[1]) * 1024 // 10**6)
        time.sleep(0.05)
    return most


def print_steering(console: Console, case: Case, result: Mapping[str, Any]) -> None:
    """What came to the service, by time."""
    table = Table(title=f"{case.says}: a second, over {SLICE:.0f} s each")
    for column in ("from", "attempts", "let in", "over the limit", "answered", "tokens"):
        table.add_column(column, justify="right")
    for place, row in enumerate(result["by_time"]):
        table.add_row(f"{place * SLICE:.0f} s", *(f"{value:,.1f}" for value in row.values()))
    limits = [f"{case.requests / 60:,.0f} requests" if case.requests else ""]
    limits += [f"{case.tokens / 60:,.0f} tokens" if case.tokens else ""]
    console.print(table)
    console.print(f"the limits: {' and '.join(filter(None, limits))} a second, {case.burst:.0f} s of it at once")


def print_requests(console: Console, results: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures of all cases with their aims."""
    rows: list[Figure] = [
        ("answered", lambda r: f"{r['answered']:,}", "all"),
        ("lost", lambda r: f"{len(r['failed'])}", "0"),
        ("answered twice", lambda r: f"{r['answered_more_often']}", "0"),
        ("attempts", lambda r: f"{r['attempts']:,}", ""),
        ("attempts over the limit", lambda r: f"{r['over_the_limit']:,}", "few"),
        ("99 % answered, after s", lambda r: f"{r['seconds_to_99']:.1f}", ""),
        ("the last, after s", lambda r: f"{r['seconds']:.1f}", ""),
        ("until 99 %: throughput / the limits' rate", lambda r: f"{r['of_limits']:.3f}", f"over {LEAST_RATIO}"),
        ("the same / that and a full bucket", lambda r: f"{r['of_all']:.3f}", "never over 1"),
        ("dollars in the answers", lambda r: f"{r['dollars']:.6f}", ""),
        ("dollars billed", lambda r: f"{r['billed']:.6f}", "the same and the next"),
        ("of it, for cut answers", lambda r: f"{r['billed_for_cut_answers']:.6f}", ""),
    ]
    print_figures(console, "requests with faults, by kind of limit", rows, results)


def print_batches(console: Console, results: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures of both strategies with their aims."""
    rows: list[Figure] = [
        ("dialogues", lambda r: f"{r['dialogues']:,}", ""),
        ("failed", lambda r: f"{len(r['failed'])}", "0"),
        ("most memory", lambda r: f"{r['memory_mb']} MB", f"under {MOST_MB} MB"),
        ("requests in the run", lambda r: f"{r['requests']:,}", ""),
        ("requests billed", lambda r: f"{r['billed_requests']:,}", "the same"),
        ("dollars in the run", lambda r: f"{r['dollars']:.6f}", ""),
        ("dollars billed", lambda r: f"{r['billed']:.6f}", "the same"),
        ("tiers billed", lambda r: ", ".join(r["tiers"]), "batch"),
        ("seconds", lambda r: f"{r['seconds']:.1f}", ""),
    ]
    print_figures(console, "localemp generate --batch", rows, results)


def print_figures(
    console: Console, title: str, rows: Sequence[Figure], results: Mapping[str, Mapping[str, Any]]
) -> None:
    """A row for each figure, a column for each result; then why requests or dialogues were lost."""
    table = Table(title=title)
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    table.add_column("aim")
    for name, show, aim in rows:
        table.add_row(name, *(show(result) for result in results.values()), aim)
    console.print(table)
    for name, result in results.items():
        for failure in result["failed"]:
            console.print(f"{name}: lost: {failure}", markup=False)


if __name__ == "__main__":
    main()
