"""The latency of `localemp study serve` with many raters: p50 and p99 of page, study and answer.

The server is a process of its own, started as a person starts it: one process, answers in SQLite, each on the disk
before it is confirmed. Every rater has a connection that stays open, opens the page (page, style, scripts),
fetches the study, and answers its questions, one request an answer. In the end every answer that was confirmed must be
in the file. "disk" is what the disk alone takes meanwhile for one page.

    python benchmarks/study_load.py                 # 50 raters, one answer a second each: far quicker than people
    python benchmarks/study_load.py --think 0       # each sends the next answer when the last one is confirmed
    python benchmarks/study_load.py --burst         # all of them arrive in the same instant
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import click
import numpy as np
from rich.console import Console
from rich.table import Table
from script import Script

from localemp.metrics.replies import Replies, Reply
from localemp.studies.answers import AnswerStore
from localemp.studies.create import create_study
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.study import ANSWERS, Study
from localemp.utils.machine import machine, versions

AIM = 50.0  # milliseconds at p99
FILES = resources.files("localemp.studies.web").joinpath("page").iterdir()
PAGE = [
    "/",
    *(f"/page/{file.name}" for file in FILES if file.name.endswith((".css", ".js")) and file.name != "owner.js"),
]
WORDS = ("I", "lost", "my", "job", "today", "after", "nine", "years", "and", "cannot", "tell", "family", "yet")


class Rater:
    """One who rates.

    Args:
        link: The rater's own.
        think: Seconds between two answers, on average.
        waits: Kind of request -> milliseconds, for all raters together.
    """

    def __init__(self, link: str, think: float, waits: dict[str, list[float]]) -> None:
        self.url = link.split("/r/")[0]
        self.link, self.think, self.waits = link, think, waits
        self.confirmed = 0

    async def rate(self, limit: int) -> None:
        """Open the page and give so many answers."""
        jar = aiohttp.CookieJar(unsafe=True)  # which means: also for addresses without a name
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), cookie_jar=jar) as session:
            async with session.get(self.link) as response:
                response.raise_for_status()
            for path in PAGE:
                await self._timed(session, "page", "GET", path)
            shown = json.loads(await self._timed(session, "study", "GET", "/items"))
            study, given = shown["study"], 0
            for item in study["items"]:
                for aspect in study["aspects"]:
                    if given == limit:
                        return
                    # Not in step with the others, as people are not.
                    await asyncio.sleep(random.uniform(0.5, 1.5) * self.think)
                    value = random.choice([item["replies"][0]["key"], item["replies"][1]["key"], "tie"])
                    answer = {"item": item["id"], "aspect": aspect["name"], "value": value, "seconds": 1.0}
                    body = {"rater": shown["rater"], "answers": [answer]}
                    kept = json.loads(await self._timed(session, "answer", "PUT", "/answers", body))
                    self.confirmed += kept["kept"]
                    given += 1

    async def _timed(
        self, session: aiohttp.ClientSession, kind: str, method: str, path: str, body: Any = None
    ) -> bytes:
        headers = {"Origin": self.url, "X-Study": "1"} if body else {}
        began = time.perf_counter()
        async with session.request(method, self.url + path, json=body, headers=headers) as response:
            content = await response.read()
        self.waits[kind].append(1000 * (time.perf_counter() - began))
        response.raise_for_status()
        return content


def made_up_study(folder: Path, items: int) -> Study:
    """A study with dialogues and replies of the usual length."""
    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=words))

    turns = [tuple(text(17) for _ in range(draw.choice([1, 3, 5]))) for _ in range(items)]
    systems = [
        Replies(name, tuple(Reply(f"d{number}", text(20), turns=said) for number, said in enumerate(turns)), {})
        for name in ("one", "other")
    ]
    study, _ = create_study(folder, systems, "ab", load_questionnaire(), sample=items)
    return study


@contextmanager
def served(folder: Path, raters: int, port: int) -> Iterator[list[str]]:
    """Start the server; yield the raters' links."""
    names = ",".join(f"rater {number}" for number in range(raters))
    words = ["study", "serve", str(folder), "--raters", names, "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "localemp.cli.main", *words], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        links = []
        for line in process.stdout:
            links += re.findall(r"rater \d+: (http\S+)", line)
            if line.startswith("ready"):
                break
        if len(links) != raters:
            raise click.ClickException("the server did not start")
        yield links
    finally:
        process.terminate()
        process.wait()


def summary(waits: list[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    p50, p99, worst = np.quantile(waits, [0.5, 0.99, 1]).tolist()
    return {"requests": len(waits), "p50": p50, "p99": p99, "worst": worst}


def disk(file: Path, waits: list[float], ended: threading.Event) -> None:
    """Write a page to the disk again and again, to measure the disk alone."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    while not ended.wait(0.1):
        os.write(descriptor, bytes(4096))
        began = time.perf_counter()
        os.fdatasync(descriptor)
        waits.append(1000 * (time.perf_counter() - began))
    os.close(descriptor)


async def _all_rate(raters: list[Rater], answers: int, arriving: float) -> float:
    async def come(rater: Rater) -> None:
        await asyncio.sleep(random.uniform(0, arriving))
        await rater.rate(answers)

    began = time.perf_counter()
    await asyncio.gather(*map(come, raters))
    return time.perf_counter() - began


@click.command(cls=Script)
@click.option("--raters", default=50, show_default=True)
@click.option("--items", default=100, show_default=True, help="Of the study; three questions each.")
@click.option("--answers", default=60, show_default=True, help="Of each rater.")
@click.option("--think", default=1.0, show_default=True, help="Seconds between a rater's answers, on average.")
@click.option("--burst", is_flag=True, help="All arrive at once, not within 5 seconds.")
@click.option("--port", default=8399, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the values as JSON.")
def main(raters: int, items: int, answers: int, think: float, burst: bool, port: int, out: Path | None) -> None:
    """Measure; exits with 1 where the p99 of any kind of request is over the aim, or an answer was lost."""
    random.seed(0)
    settings = {"raters": raters, "items": items, "answers": answers, "think": think, "burst": burst}
    waits: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        study = made_up_study(Path(folder) / "study", items)
        with served(study.folder, raters, port) as links:
            people = [Rater(link, think, waits) for link in links]
            ended = threading.Event()
            probe = threading.Thread(target=disk, args=(Path(folder) / "probe", waits["disk"], ended))
            probe.start()
            seconds = asyncio.run(_all_rate(people, answers, 0.0 if burst else 5.0))
            ended.set()
            probe.join()
        kept, confirmed = (
            len(AnswerStore(study.folder / ANSWERS, study).votes()),
            sum(each.confirmed for each in people),
        )
    figures = {kind: summary(each) for kind, each in waits.items()}
    _show(figures, settings, seconds, kept, confirmed)
    if out:
        made = {"settings": settings, "seconds": seconds, "milliseconds": figures, "confirmed": confirmed, "kept": kept}
        out.write_text(json.dumps({**made, "machine": machine(), "versions": versions()}, indent=1) + "\n", "utf-8")
    sys.exit(kept != confirmed or any(each["p99"] > AIM for kind, each in figures.items() if kind != "disk"))


def _show(
    figures: dict[str, dict[str, float]], settings: dict[str, Any], seconds: float, kept: int, confirmed: int
) -> None:
    console = Console()
    table = Table(
        "request", "number", "p50, ms", "p99, ms", "worst, ms", title=", ".join(map(_setting, settings.items()))
    )
    for kind, each in figures.items():
        table.add_row(kind, f"{each['requests']:,.0f}", *(f"{each[name]:.1f}" for name in ("p50", "p99", "worst")))
    console.print(table)
    rate = sum(each["requests"] for kind, each in figures.items() if kind != "disk") / seconds
    console.print(f"{rate:,.0f} requests/s; aim: p99 under {AIM:.0f} ms; {confirmed:,} confirmed, {kept:,} in the file")
    here = machine()
    console.print(f"{here['processor']}, {here['cores']} cores, load {os.getloadavg()[0]:.1f}; Python {here['Python']}")


def _setting(setting: tuple[str, Any]) -> str:
    return f"{setting[0]} {setting[1]}"


if __name__ == "__main__":
    main()
