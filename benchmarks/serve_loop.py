"""How long the event loop of `localemp serve` is blocked while the encoder and COMET look things up.

The middleware runs in a process of its own, in front of the scripted model of the tests: encoder, COMET and batches are
real, the model costs nothing. A heartbeat in that process's loop notes how late each of its beats is, which is how long
every stream of every client stood still. `serve_load.py --scripted` uses the same server.
"""

import asyncio
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from localemp.bench.load.client import CHAT, Answer, Client, percentile
from localemp.bench.load.schedule import Load
from localemp.bench.servers import free_port
from localemp.data.sources import load_dialogues
from localemp.errors import LocalempError
from localemp.models.profiles import Kind, load_profile
from localemp.models.weights import resolve
from localemp.pipeline.config import RunConfig
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings
from localemp.utils.paths import cache_dir

AIM = 0.05  # seconds
BEAT = 0.005  # seconds between two beats
TESTS = Path(__file__).parent.parent / "tests" / "serving"
LOOKUPS: dict[str, tuple[Kind, str]] = {
    "similar": ("encoder", "all-mpnet-base-v2"),
    "knowledge": ("commonsense", "comet-mini"),
}


async def watch_loop(lookups: int, count: int) -> list[dict[str, Any]]:
    """Watch the loop while nothing is done, at the first request of each strategy, and under load.

    Args:
        lookups: Requests of each strategy; no dialogue comes twice.
        count: Requests at once.
    """
    names, phases = [], list[dict[str, Any]]()
    for name, (kind, weights) in LOOKUPS.items():
        try:
            resolve(load_profile(weights, kind))
            names.append(name)
        except LocalempError as error:
            phases.append({"phase": name, "skipped": error.message})
    if not names:
        return phases
    samples, jobs = load_dialogues("samples"), iter(range(10**9))
    settings = ServeSettings.of(
        "tiny", RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1"), strategies=names, ui=False
    )
    with scripted_server(settings, slow=0.0) as url:
        async with Client(url) as client:

            async def ask(strategy: str) -> Answer:
                job = next(jobs)
                said = f"{samples[job % len(samples)].turns[0]} ({job})"
                return await client.chat({"model": f"tiny:{strategy}", "messages": [{"role": "user", "content": said}]})

            async def phase(name: str, strategies: Sequence[str]) -> None:
                await client.get("/heartbeat")
                began = time.perf_counter()
                load = Load(ask)
                await (load.closed_loop(strategies, count) if strategies else asyncio.sleep(3))
                seconds = time.perf_counter() - began
                done: dict[str, Any] = {"requests": load.sent, "per_s": load.sent / seconds}
                done["errors"] = [f"{one.status} {one.error[:300]}" for one in load.answers if not one.good]
                phases.append({"phase": name, **done, **_late(json.loads(await client.get("/heartbeat")))})

            await phase("nothing", [])
            for name in names:
                await phase(f"{name}, first request", [name])
            for name in names:
                await phase(name, [name] * lookups)
            if len(names) > 1:
                await phase("all in turn", names * lookups)
    return phases


def _late(beats: Sequence[Sequence[float]]) -> dict[str, Any]:
    late = [1000 * beat[0] for beat in beats]
    return {
        "beats": len(beats),
        "late_ms": {"p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "worst": max(late, default=0.0)},
        "most_computed_ms": 1000 * max((beat[1] for beat in beats), default=0.0),
        "over_aim": sum(each > 1000 * AIM for each in late),
    }


def print_loop(phases: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table, and what went wrong."""
    table = Table(title="the server's event loop: how late its beats are, ms")
    for column in (
        "",
        "requests",
        "requests/s",
        "p50",
        "p99",
        "worst",
        "aim",
        "beats over it",
        "most computed at once",
    ):
        table.add_column(column, justify="right" if column else "left")
    for row in phases:
        if "skipped" in row:
            console.print(f"{row['phase']} was left out: {row['skipped']}", markup=False)
            continue
        late = [f"{row['late_ms'][part]:.1f}" for part in ("p50", "p99", "worst")]
        over = f"{row['over_aim']} of {row['beats']:,}"
        cells = [f"{row['requests']}", f"{row['per_s']:.2f}", *late, f"<= {1000 * AIM:.0f}", over]
        table.add_row(row["phase"], *cells, f"{row['most_computed_ms']:.1f}")
        for said in row["errors"][:3]:
            console.print(f"{row['phase']}: {said}", markup=False)
    console.print(table)


@contextmanager
def scripted_server(settings: ServeSettings, slow: float) -> Iterator[str]:
    """The middleware in a process of its own, before the tests' scripted model; gives its URL.

    COMET's answers go into a cache that is thrown away: they are asked about nonsense.

    Args:
        settings: What is served; the model is "tiny".
        slow: Seconds before each word of a reply.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        for path in cache_dir().glob("*"):
            if path.name != "commonsense":
                (Path(folder) / path.name).symlink_to(path)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve, args=(settings, port, slow, folder), daemon=True)
        process.start()
        try:
            while not _healthy(url):
                if process.exitcode is not None:
                    raise RuntimeError(f"the scripted server ended with exit code {process.exitcode}")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.join(10)
            process.kill()
            process.join()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _serve(settings: ServeSettings, port: int, slow: float, cache: str) -> None:
    import uvicorn

    os.environ["LOCALEMP_CACHE"] = cache
    sys.path.insert(0, str(TESTS))
    model = importlib.import_module("model_app").ModelApp()
    # It keeps all that it was ever asked, for tests; here that would look like a leak.
    model.asked = model.headers = deque(maxlen=16)
    model.slow = slow
    slots = Slots(model.app)
    app = Heartbeat(StrategyMiddleware(slots, settings), slots)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


class Slots:
    """Counts the chats that an app works on, exactly: from the call to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.running = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        counts = scope.get("path") == CHAT
        self.running += counts
        try:
            await self.app(scope, receive, send)
        finally:
            self.running -= counts


class Heartbeat:
    """Watches the event loop that an app runs in.

    `/heartbeat` tells the beats since it was last asked: how many seconds each came late, and for how many of them the
    loop's own thread computed. What remains was spent waiting for a core or for Python's lock.
    `/metrics` tells the slots in the words of vLLM.
    """

    def __init__(self, app: ASGIApp, slots: Slots) -> None:
        self.app, self.slots = app, slots
        self._beats: list[tuple[float, float]] = []
        self._beating: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        self._beating = self._beating or asyncio.create_task(self._beat())
        if scope.get("path") == "/heartbeat":
            beats, self._beats = self._beats, []
            await JSONResponse(beats)(scope, receive, send)
        elif scope.get("path") == "/metrics":
            told = f"vllm:num_requests_running {self.slots.running}\nvllm:num_requests_waiting 0\n"
            await PlainTextResponse(told)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _beat(self) -> None:
        while True:
            began, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(BEAT)
            late = time.perf_counter() - began - BEAT
            self._beats.append((late, time.thread_time() - worked))
