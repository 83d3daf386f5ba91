"""The overhead of our proxy in front of an upstream, compared with direct requests and other proxies, alternating.

    direct      the load asks the upstream itself: a server of our own in another process that answers immediately
    localemp    through `Proxy` (aiohttp), as `localemp serve` runs it, without the strategies
    plain httpx2  through the shortest proxy that streams with httpx2: whether aiohttp was worth it
    litellm     through litellm's proxy, where `--litellm` names its command

litellm goes into a venv of its own: `pip install 'litellm[proxy]'`. It reads requests and writes answers anew, which it
must, since it translates between providers; it is the usual gateway, not the fastest.

Every round asks each of them the same number of times, the order moving on by one. Beside the times stands the
processor time that a server spends on a request: it says more where other programs work on the machine, too.
"""

import asyncio
import json
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import click
import httpx2
import numpy as np
import psutil
import uvloop
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result
from starlette.types import Receive, Scope, Send

from localemp.serving.proxy.app import Proxy
from localemp.utils.machine import machine, versions
from localemp.web.asgi import read_body
from localemp.web.server import serve

CHAT = "/v1/chat/completions"
TOKENS = 16  # chunks of a streamed answer
_WARM_UP = 50
_KEY = "sk-" + secrets.token_hex(32)  # litellm does not start without a good one


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    stream: bool
    body_bytes: int
    at_once: int

    def __str__(self) -> str:
        return f"{'streamed' if self.stream else 'whole'}, {self.body_bytes} B, {self.at_once} at once"


@dataclass
class Figures:
    """The values of one server in one case."""

    seconds: list[float] = field(default_factory=list)
    first_chunk: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    errors: int = 0

    def summary(self, direct: "Figures") -> dict[str, Any]:
        """In milliseconds, and how much more than `direct`."""
        result: dict[str, Any] = {"requests": len(self.seconds), "errors": self.errors}
        for name in ("seconds", "first_chunk"):
            for share in (50, 99):
                own, other = (1000 * float(np.percentile(getattr(each, name), share)) for each in (self, direct))
                result |= {f"{name}_p{share}_ms": own, f"{name}_p{share}_added_ms": own - other}
        per_request = 1000 * self.cpu / len(self.seconds)
        return result | {"requests_per_s": len(self.seconds) / self.wall, "cpu_ms_per_request": per_request}


@click.command(cls=Script)
@click.option(
    "--requests", type=click.IntRange(min=1), default=1000, show_default=True, help="Of each server and case."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--at-once", type=int, multiple=True, default=(1, 32), show_default=True)
@click.option("--body-bytes", type=int, multiple=True, default=(200, 4096), show_default=True)
@click.option("--token-ms", default=2.0, show_default=True, help="Pause before each chunk of a stream.")
@click.option("--litellm", type=click.Path(exists=True, path_type=Path), help="litellm's command.")
@out_option
def main(
    requests: int,
    rounds: int,
    at_once: tuple[int, ...],
    body_bytes: tuple[int, ...],
    token_ms: float,
    litellm: Path | None,
    out: Path | None,
) -> None:
    """Measure the overhead of proxies."""
    settings = {
        key: value for key, value in click.get_current_context().params.items() if key not in ("litellm", "out")
    }
    cases = [Case(stream, size, many) for stream in (False, True) for size in body_bytes for many in at_once]
    load_before = os.getloadavg()[0]
    with _servers(token_ms / 1000, litellm) as servers:
        figures = uvloop.run(_measure(servers, cases, requests // rounds, rounds))
    result = {
        "machine": machine()
        | versions()
        | {name: version(name) for name in ("aiohttp", "httpx2", "uvicorn", "uvloop", "httptools")}
        | ({"litellm": _version_beside(litellm)} if litellm else {})
        | {"load_before": load_before, "date": time.strftime("%Y-%m-%d")},
        "settings": settings,
        "cases": [
            asdict(case)
            | {"servers": {name: found.summary(figures[case]["direct"]) for name, found in figures[case].items()}}
            for case in cases
        ],
    }
    write_result(out, result)
    _print(result, cases)


async def _measure(
    servers: dict[str, tuple[str, int]], cases: Sequence[Case], requests: int, rounds: int
) -> dict[Case, dict[str, Figures]]:
    figures: dict[Case, dict[str, Figures]] = {case: {name: Figures() for name in servers} for case in cases}
    names = list(servers)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        for name in names:
            await _load(session, servers[name][0], Case(True, 200, 1), _WARM_UP, Figures())
        for number in range(rounds):
            for case in cases:
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    url, process = servers[name]
                    before = _cpu_seconds(process)
                    await _load(session, url, case, requests, figures[case][name])
                    figures[case][name].cpu += _cpu_seconds(process) - before
    return figures


async def _load(session: aiohttp.ClientSession, url: str, case: Case, requests: int, figures: Figures) -> None:
    """Ask so many times, some at once, the next as soon as one is answered."""
    text = "x" * max(case.body_bytes - 100, 1)
    content = {"model": "tiny", "stream": case.stream, "messages": [{"role": "user", "content": text}]}
    body, headers = (
        json.dumps(content).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {_KEY}"},
    )
    left = iter(range(requests))

    async def ask() -> None:
        for _ in left:
            started, first, size = time.perf_counter(), 0.0, 0
            try:
                async with session.post(url + CHAT, data=body, headers=headers) as answer:
                    async for part in answer.content.iter_any():
                        first, size = first or time.perf_counter(), size + part.count(b'"index"')
                    figures.errors += answer.status != 200 or size < (TOKENS if case.stream else 1)
            except (aiohttp.ClientError, TimeoutError):
                figures.errors += 1
            ended = time.perf_counter()
            figures.seconds.append(ended - started)
            figures.first_chunk.append((first or ended) - started)

    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(case.at_once)))
    figures.wall += time.perf_counter() - started


@contextmanager
def _servers(pause: float, litellm: Path | None) -> Iterator[dict[str, tuple[str, int]]]:
    """Start all servers, each in a process of its own; yield address and process of each by name."""
    spawn, ports = multiprocessing.get_context("spawn"), defaultdict[str, int](_free_port)
    processes: dict[str, int | None] = {}
    upstream = f"http://127.0.0.1:{ports['direct']}/v1"
    targets: dict[str, tuple[Callable[..., None], float | str]] = {
        "direct": (_serve_double, pause),
        "localemp": (_serve_upstream, upstream),
        "plain httpx2": (_serve_plain, upstream),
    }
    try:
        for name, (target, argument) in targets.items():
            process = spawn.Process(target=target, args=(argument, ports[name]), daemon=True)
            process.start()
            processes[name] = process.pid
        with _litellm(litellm, upstream, ports["litellm"]) as pid:
            if pid is not None:
                processes["litellm"] = pid
            for name in processes:
                _wait_for(f"http://127.0.0.1:{ports[name]}")
            yield {name: (f"http://127.0.0.1:{ports[name]}", pid or 0) for name, pid in processes.items()}
    finally:
        for child in multiprocessing.active_children():
            child.terminate()
            child.join()


@contextmanager
def _litellm(command: Path | None, upstream: str, port: int) -> Iterator[int | None]:
    if command is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "config.yaml"), Path(folder, "log")
        model = {
            "model_name": "tiny",
            "litellm_params": {"model": "openai/tiny", "api_base": upstream, "api_key": "none"},
        }
        config.write_text(json.dumps({"model_list": [model]}))  # JSON is YAML
        env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": _KEY}
        arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [command, *arguments], env=env, stdout=file, stderr=subprocess.STDOUT, process_group=0
            )
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _serve_double(pause: float, port: int) -> None:
    """An upstream that answers immediately, and streams 16 tokens with a pause before each."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "That sounds hard. " * 10},
    }
    head = {"id": "chatcmpl-1", "created": 1, "model": "tiny"}
    usage = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
    whole = json.dumps(head | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    delta = {"index": 0, "delta": {"content": " sounds"}, "finish_reason": None}
    token = b"data: %s\n\n" % json.dumps(head | {"object": "chat.completion.chunk", "choices": [delta]}).encode()
    json_head = [(b"content-type", b"application/json"), (b"content-length", str(len(whole)).encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await read_body(receive, 2**30)
        if b'"stream": true' not in body and b'"stream":true' not in body:
            await send({"type": "http.response.start", "status": 200, "headers": json_head})
            await send({"type": "http.response.body", "body": whole})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(TOKENS):
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": token, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    serve(app, "127.0.0.1", port)


def _serve_upstream(upstream: str, port: int) -> None:
    serve(Proxy([upstream], None, served="tiny"), "127.0.0.1", port)


def _serve_plain(upstream: str, port: int) -> None:
    """Streams with httpx2 and does nothing else: no time-outs, errors or keys, and only framing is left out."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4)
    client = httpx2.AsyncClient(timeout=None, limits=limits, trust_env=False)
    framing = {b"host", b"content-length", b"transfer-encoding", b"connection"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await client.aclose()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await read_body(receive, 2**30)
        headers = [(name, value) for name, value in scope["headers"] if name not in framing]
        url = upstream.removesuffix("/v1") + scope["path"]
        async with client.stream(scope["method"], url, headers=headers, content=body) as answer:
            kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in framing]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    serve(app, "127.0.0.1", port)


def _wait_for(url: str) -> None:
    """Wait until a request is answered; litellm takes half a minute."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
    with httpx2.Client(trust_env=False, timeout=10) as client:
        for _ in range(600):
            try:
                if client.post(url + CHAT, json=body, headers={"authorization": f"Bearer {_KEY}"}).is_success:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
    raise click.ClickException(f"no server answers at {url}")


def _cpu_seconds(process: int) -> float:
    found = psutil.Process(process)
    times = [each.cpu_times() for each in (found, *found.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _version_beside(command: Path) -> str:
    script = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run(
        [command.with_name("python"), "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


def _print(result: dict[str, Any], cases: Sequence[Case]) -> None:
    console = Console()
    for case, found in zip(cases, result["cases"], strict=True):
        table = Table(title=str(case), title_justify="left")
        for column in (
            "",
            "p50 ms",
            "p99 ms",
            "added p50",
            "added p99",
            "first chunk added p50",
            "requests/s",
            "CPU ms",
            "errors",
        ):
            table.add_column(column, justify="left" if not column else "right")
        for name, each in found["servers"].items():
            keys = ("seconds_p50_ms", "seconds_p99_ms", "seconds_p50_added_ms", "seconds_p99_added_ms")
            values = [
                *(f"{each[key]:.2f}" for key in (*keys, "first_chunk_p50_added_ms")),
                f"{each['requests_per_s']:.0f}",
            ]
            table.add_row(name, *values, f"{each['cpu_ms_per_request']:.2f}", str(each["errors"]))
        console.print(table)
    console.print(json.dumps(result["machine"]), json.dumps(result["settings"]), sep="\n", soft_wrap=True)


if __name__ == "__main__":
    main()
