"""The service in a thread of this process, or in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from patience import patience

from hosted.service import Service
from hosted.transport import listen, port_of

TESTS = Path(__file__).resolve().parents[1]


class HostedService(Service):
    """The service behind a port of this machine, while the `with` block lasts; see `Service` for its arguments.

    `latency` is the time of each answer, in seconds.
    """

    def __init__(self, *, latency: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self._latency, self._port = latency, 0
        self._loop = asyncio.new_event_loop()
        self._listening, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, with /v1."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(patience()), "the service does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        server = self._loop.run_until_complete(listen(self, self._latency))
        self._port = port_of(server)
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for connection in list(self.connections):
            connection.abort()
        self._loop.run_until_complete(asyncio.sleep(0))


class HostedProcess:
    """The service in a process of its own, while the `with` block lasts; its options: `python -m hosted --help`."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The base URL, with /v1."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hosted", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        assert self._process.stdout is not None
        self._port = json.loads(self._process.stdout.readline())["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(patience())

    def summary(self) -> dict[str, Any]:
        """Counts of the log, and the bill; see `Service.summary`."""
        found: dict[str, Any] = self._ask("summary")
        return found

    def log(self) -> list[dict[str, Any]]:
        """All requests; see `Served`."""
        found: list[dict[str, Any]] = self._ask("log")
        return found

    def advance(self, id: str | None = None, to: str | None = None) -> list[str]:
        """See `Service.advance`."""
        found: list[str] = self._ask("advance", id=id, to=to)
        return found

    def work(self, id: str, lines: int) -> None:
        """See `Service.work`."""
        self._ask("work", id=id, lines=lines)

    def expire(self, id: str) -> None:
        """See `Service.expire`."""
        self._ask("expire", id=id)

    def fail_next(self, kind: str, path: str, method: str = "POST", *, after: bool = False, times: int = 1) -> None:
        """See `Service.fail_next`."""
        self._ask("fail_next", kind=kind, path=path, method=method, after=after, times=times)

    def _ask(self, name: str, **told: Any) -> Any:
        url = f"http://127.0.0.1:{self._port}/fake/{name}"
        request = urllib.request.Request(url, json.dumps(told).encode() if told else b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=patience()) as response:
            return json.load(response)
