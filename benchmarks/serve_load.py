"""A load test of `localemp serve`: a bad hour, compressed into minutes.

Clients ask the model itself and its strategies, streamed and whole. Some hang up at a random moment, some in the middle
of their own request; some send bodies that mean nothing, and some have no key. It fails (exit code 1) when

    an answer with status 5xx, or an error in the middle of a stream, is ours and not vLLM's own
    a request was answered otherwise than it should be, or its connection broke
    the memory of the server's processes grew by more than 5 % after the warm-up
    a slot of the engine is not free at the end

    python benchmarks/serve_load.py                         # a server with SmolLM2
    python benchmarks/serve_load.py --scripted --clients 64 # the middleware alone, before a model that costs nothing
    python benchmarks/serve_load.py --url http://127.0.0.1:8000 --pid PID
"""

import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import psutil
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result
from serve_loop import scripted_server

from localemp.bench.load.client import CHAT, Answer, Client, chat_messages
from localemp.bench.servers import vllm_server
from localemp.data.sources import load_dialogues
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.settings import ServeSettings
from localemp.utils.machine import machine, versions

KEY = "a-key-of-the-load-test"
WARM_UP = 0.25  # of the time
GROWTH = 0.05
PATIENCE = 10.0  # seconds that slots have at the end

# How often each kind of request comes.
KINDS = {"bare": 25, "strategy": 40, "hang up": 20, "malformed": 12, "wrong key": 3}

GOOD = [{"role": "user", "content": "My dog died yesterday. He was with me for fifteen years."}]
# Bodies that must be refused; NAME and STRATEGY are filled in.
MALFORMED = [
    b"",
    b"{",
    b"null",
    b"[1, 2]",
    b"\xff\xfe\x00",
    b'{"model": "STRATEGY", ' + b"[" * 5000,
    b'{"model": "STRATEGY", "messages": ',
    b'{"model": "STRATEGY"}',
    b'{"model": "NAME"}',
    b'{"model": "STRATEGY", "messages": []}',
    b'{"model": "STRATEGY", "messages": "hello"}',
    b'{"model": "STRATEGY", "messages": [1, null]}',
    b'{"model": "STRATEGY", "messages": [{"role": "user"}]}',
    b'{"model": "STRATEGY", "messages": [{"role": "king", "content": "x"}]}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "\\ud83d"}]}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
    b'{"model": "NAME:no-such-strategy", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "NAME:", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": ["STRATEGY"], "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}], "localemp": {"shots": -1}}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}], "localemp": {"variant": "../../x"}}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}], "stream": 7}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}], "temperature": 99}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}',
    b'{"model": "STRATEGY", "messages": [{"role": "user", "content": "' + b"much too long " * 20_000 + b'"}]}',
]


@dataclass
class Log:
    """What happened.

    Attributes:
        outcomes: How often each kind of request had each outcome.
        errors: 5xx answers and errors in streams: whose they are, status and text, and how often.
        wrong: What was answered otherwise than it should be, and how often.
        memory: Seconds since the start, and megabytes of every process of the server.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def note(self, kind: str, answer: Answer, expected: str) -> None:
        """Count an answer; it is to be "answered" or "refused"."""
        if answer.status >= 500 or (answer.status == 200 and answer.error):
            outcome = "5xx"
            self.errors[_whose(answer.error), f"{answer.status} {answer.error[:500]}"] += 1
        elif answer.status == 0:
            outcome = "broken"
        else:
            outcome = "answered" if answer.good else "refused"
        self.outcomes[kind, outcome] += 1
        if outcome not in (expected, "5xx"):
            self.wrong[f"{kind}: {outcome} with {answer.status} {answer.error[:200]}"] += 1


def _whose(error: str) -> str:
    """The origin of an error: vLLM's errors have its own format, all others count as ours."""
    return "vLLM" if re.search(r'"type": ?"(InternalServerError|EngineError|ServiceUnavailable\w*)"', error) else "ours"


class Clients:
    """Clients of all kinds.

    Args:
        client: Has a valid key.
        model: The name of the bare model.
        strategies: Names of strategies that are served.
        keyed: Whether the server wants a key.
        options: Of the command: tokens of a reply, the seed that draws what comes, and whether the model is scripted.
    """

    def __init__(
        self, client: Client, model: str, strategies: Sequence[str], keyed: bool, options: Mapping[str, Any]
    ) -> None:
        self.client, self.model, self.strategies = client, model, strategies
        self.log, self.tokens, self._draw = Log(), options["tokens"], random.Random(options["seed"])
        # The scripted model believes what it is told.
        self._malformed_bodies = [body for body in MALFORMED if not options["scripted"] or b"STRATEGY" in body]
        self._talks = [chat_messages(dialogue.turns) for dialogue in load_dialogues("samples")]
        self._kinds = {kind: often for kind, often in KINDS.items() if keyed or kind != "wrong key"}
        self._does: dict[str, Callable[[], Awaitable[None]]] = {
            "bare": self._bare,
            "strategy": self._strategy,
            "hang up": self._hang_up,
            "malformed": self._malformed,
            "wrong key": self._wrong_key,
        }

    async def run(self, count: int, until: float) -> None:
        """So many clients, each with one request after another, until `time.monotonic()` says so."""

        async def one() -> None:
            while time.monotonic() < until:
                (kind,) = self._draw.choices(list(self._kinds), list(self._kinds.values()))
                await self._does[kind]()

        await asyncio.gather(*(one() for _ in range(count)))

    def _body(self, strategy: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": self._draw.choice(self._talks)}
        body |= {"max_tokens": self.tokens, "stream": self._draw.random() < 0.6}
        if strategy:
            body["model"] = f"{self.model}:{self._draw.choice(self.strategies)}"
            if self._draw.random() < 0.3:
                body["localemp"] = {"trace": True}
            if self._draw.random() < 0.2:
                body["messages"] = [{"role": "system", "content": "Answer briefly."}, *body["messages"]]
        return body

    async def _bare(self) -> None:
        self.log.note("bare", await self.client.chat(self._body(False)), "answered")

    async def _strategy(self) -> None:
        self.log.note("strategy", await self.client.chat(self._body(True)), "answered")

    async def _hang_up(self) -> None:
        body = self._body(self._draw.random() < 0.7)
        if self._draw.random() < 0.2:
            await self._hang_up_early(body)
            return
        task = asyncio.create_task(self.client.chat(body))
        # Most moments are early ones: before the first byte, between two stages, within the first words.
        await asyncio.wait({task}, timeout=self._draw.expovariate(2.0))
        if task.done():
            self.log.note("hang up", task.result(), "answered")
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self.log.outcomes["hang up", "hung up"] += 1

    async def _hang_up_early(self, body: Mapping[str, Any]) -> None:
        """Disconnect while the request is being sent."""
        where, content = urlsplit(self.client.url), json.dumps(body).encode()
        key = self.client.headers.get("Authorization", "none")
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
        with suppress(OSError):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(head.encode() + content[: self._draw.randrange(len(content))])
            await writer.drain()
            await asyncio.sleep(self._draw.random() / 20)
            writer.close()
            await writer.wait_closed()
        self.log.outcomes["hang up", "hung up"] += 1

    async def _malformed(self) -> None:
        body = self._draw.choice(self._malformed_bodies)
        strategy = f"{self.model}:{self._draw.choice(self.strategies)}"
        for name, value in (("STRATEGY", strategy), ("NAME", self.model)):
            body = body.replace(name.encode(), value.encode())
        self.log.note("malformed", await self.client.post(body), "refused")

    async def _wrong_key(self) -> None:
        wrong = self._draw.choice(["Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY} ", ""])
        asked = await self.client.chat(self._body(True), {"Authorization": wrong})
        # White space around a header's value is none of its value.
        self.log.note("wrong key", asked, "answered" if wrong == f"Bearer {KEY} " else "refused")


async def watch_memory(root: int | None, log: Log, until: float) -> None:
    """Note once a second what the server's processes hold: those that we started, or a given one with its own."""
    began = time.monotonic()
    while time.monotonic() < until:
        log.memory.append((time.monotonic() - began, memory_of(root)))
        await asyncio.sleep(1)


def memory_of(root: int | None) -> dict[str, float]:
    """Megabytes (RSS) by process."""
    parent = psutil.Process(root)
    processes = [*parent.children(recursive=True), *([parent] if root is not None else [])]
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found[f"{process.name()} {process.pid}"] = process.memory_info().rss / 2**20
    return found


async def slots_taken(client: Client) -> tuple[float, float]:
    """The engine's running and waiting requests."""
    text = await client.get("/metrics")
    found = [re.findall(rf"^vllm:num_requests_{what}(?:{{.*}})? (\S+)", text, re.M) for what in ("running", "waiting")]
    if not all(found):
        raise click.ClickException("/metrics does not tell of running and waiting requests")
    running, waiting = (sum(map(float, values)) for values in found)
    return running, waiting


async def wait_for_slots(client: Client, model: str) -> tuple[float, float, float]:
    """Running and waiting requests when all are done, or after some patience, and the seconds that took."""
    began = time.monotonic()
    while True:
        # vLLM sets its gauges when its engine takes a step, which it does not do for requests that were aborted.
        await client.chat({"model": model, "messages": GOOD, "max_tokens": 1})
        running, waiting = await slots_taken(client)
        seconds = time.monotonic() - began
        if not (running or waiting) or seconds > PATIENCE:
            return running, waiting, seconds
        await asyncio.sleep(0.2)


async def load(
    url: str, key: str | None, model: str, strategies: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Load a server and report the outcome."""
    async with Client(url, key) as client:
        clients = Clients(client, model, strategies, key is not None, options)
        before = await wait_for_slots(client, model)
        if before[0] or before[1]:
            raise click.ClickException("the server is busy with the requests of others")
        until = time.monotonic() + 60 * options["minutes"]
        await asyncio.gather(clients.run(options["clients"], until), watch_memory(options["pid"], clients.log, until))
        running, waiting, seconds = await wait_for_slots(client, model)
    log = clients.log
    return {
        "outcomes": [{"kind": kind, "outcome": end, "count": n} for (kind, end), n in sorted(log.outcomes.items())],
        "errors": [{"whose": whose, "said": said, "count": n} for (whose, said), n in log.errors.most_common()],
        "wrong": [{"what": what, "count": n} for what, n in log.wrong.most_common()],
        "memory": log.memory,
        "growth": growth(log.memory),
        "slots": {"running": running, "waiting": waiting, "seconds": seconds},
    }


def growth(memory: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Megabytes of all processes together just after the warm-up and at the end: medians over a tenth of the time."""
    sizes = [sum(processes.values()) for _, processes in memory]
    tenth, warm = max(1, len(sizes) // 10), int(len(sizes) * WARM_UP)
    after, end = statistics.median(sizes[warm : warm + tenth]), statistics.median(sizes[-tenth:])
    return {"start": sizes[0], "after_warm_up": after, "end": end, "part": end / after - 1 if after else 0.0}


@contextmanager
def started(options: Mapping[str, Any], engine_options: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The server to be loaded: URL, name of the model, and names of its strategies."""
    strategies = options["strategies"].split(",")
    if options["scripted"]:
        config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=2)
        settings = ServeSettings.of("tiny", config, strategies=strategies, api_keys=[KEY])
        with scripted_server(settings, slow=0.02) as url:
            yield url, "tiny", strategies
        return
    config = RunConfig(model=options["model"], max_tokens=options["tokens"], shots=2)
    pipeline = Pipeline(config)
    settings = ServeSettings.of(pipeline.profile.name, config, strategies=strategies, api_keys=[KEY])
    with vllm_server(pipeline, settings, engine_options, KEY) as server:
        server.wait_until_ready()
        yield server.url, settings.model, strategies


@click.command(cls=Script)
@click.option("--minutes", default=3.0, show_default=True)
@click.option("--clients", default=24, show_default=True, help="Each has one request at a time.")
@click.option("--model", default="smollm2", show_default=True, help="With --url, as the server calls it.")
@click.option("--strategies", default="zero-shot,few-shot,two-stage,few-shot+two-stage", show_default=True)
@click.option("--tokens", default=24, show_default=True, help="Of a reply.")
@click.option("--scripted", is_flag=True, help="The middleware before a scripted model.")
@click.option("--url", help="A server that runs already; its key in LOCALEMP_API_KEY.")
@click.option("--pid", type=int, help="Its process, so that its memory can be watched.")
@click.option("--seed", default=0, show_default=True)
@out_option
@click.argument("engine_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM OPTIONS]")
def main(url: str | None, out: Path | None, engine_options: tuple[str, ...], **options: Any) -> None:
    """Load a server."""
    if url:
        key, strategies = os.environ.get("LOCALEMP_API_KEY"), options["strategies"].split(",")
        result = asyncio.run(load(url, key, options["model"], strategies, options))
        if options["pid"] is None:
            result |= {"memory": [], "growth": None}
    else:
        with started(options, engine_options) as (own_url, model, strategies):
            result = asyncio.run(load(own_url, KEY, model, strategies, options))
    result["machine"] = machine() | versions() | {"load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}
    result["settings"] = {**options, "engine_options": list(engine_options)}
    write_result(out, result)
    _print(result)
    sys.exit(1 if verdicts(result) else 0)


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """The failures that must not happen."""
    found, grown, slots = [], result["growth"], result["slots"]
    if ours := sum(error["count"] for error in result["errors"] if error["whose"] == "ours"):
        found.append(f"{ours} errors of ours")
    if wrong := sum(each["count"] for each in result["wrong"]):
        found.append(f"{wrong} requests were answered otherwise than they should be")
    if grown and grown["part"] > GROWTH:
        found.append(f"memory grew by {grown['part']:.1%} after the warm-up, more than {GROWTH:.0%}")
    if slots["running"] or slots["waiting"]:
        found.append(f"{slots['running']:.0f} running and {slots['waiting']:.0f} waiting requests are left")
    return found


def _print(result: Mapping[str, Any]) -> None:
    console, settings = Console(), result["settings"]
    ends = ("answered", "refused", "hung up", "broken", "5xx")
    counts = {(each["kind"], each["outcome"]): each["count"] for each in result["outcomes"]}
    table = Table(title=f"requests by outcome, {settings['minutes']:g} minutes, {settings['clients']} clients")
    for column in ("", *ends, "all"):
        table.add_column(column, justify="left" if not column else "right")
    for kind in KINDS:
        row = [counts.get((kind, end), 0) for end in ends]
        table.add_row(kind, *(f"{count:,}" for count in (*row, sum(row))))
    table.add_row(
        "all", *(f"{sum(counts.get((kind, end), 0) for kind in KINDS):,}" for end in ends), f"{sum(counts.values()):,}"
    )
    console.print(table)
    for error in result["errors"]:
        console.print(f"{error['count']} x {error['whose']}: {error['said']}", markup=False)
    for each in result["wrong"]:
        console.print(f"{each['count']} x wrong: {each['what']}", markup=False)
    if grown := result["growth"]:
        _print_memory(result["memory"], console)
        console.print(
            f"memory: {grown['start']:,.0f} MiB at the start, {grown['after_warm_up']:,.0f} after the warm-up, "
            f"{grown['end']:,.0f} at the end: {grown['part']:+.1%} (at most {GROWTH:+.0%})"
        )
    slots = result["slots"]
    console.print(
        f"slots at the end: {slots['running']:.0f} running, {slots['waiting']:.0f} waiting "
        f"(0 and 0), seen after {slots['seconds']:.1f} s"
    )
    console.print(json.dumps(result["machine"]), json.dumps(settings), sep="\n", soft_wrap=True)
    console.print("\n".join(f"FAILED: {each}" for each in verdicts(result)) or "passed")


def _print_memory(memory: Sequence[tuple[float, Mapping[str, float]]], console: Console) -> None:
    """Nine moments, and at each what every process held that lived to the end."""
    picked = [memory[round(part / 8 * (len(memory) - 1))] for part in range(9)]
    table = Table(title="memory, MiB (RSS) after so many seconds")
    for seconds in ("", *(f"{second:.0f}" for second, _ in picked)):
        table.add_column(seconds, justify="right")
    for process in memory[-1][1]:
        table.add_row(process, *(f"{sizes.get(process, 0):,.0f}" for _, sizes in picked))
    console.print(table)


if __name__ == "__main__":
    main()
