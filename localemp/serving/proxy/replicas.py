"""The servers behind an upstream: which of them is asked next, over one pool of connections.

aiohttp is the client: httpx2 takes two to three times the processor time (`benchmarks/upstream_overhead.py`).
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from prometheus_client import Counter, Gauge
from yarl import URL

from localemp.engines.openai.target import shown_url
from localemp.errors import OptionError
from localemp.serving.proxy.request import Outgoing
from localemp.serving.schema import RequestError
from localemp.utils.redaction import mask_key
from localemp.utils.text import one_line

LEFT_OUT = 5.0
"""Seconds for which a server that cannot be connected to is asked only when no other can be."""
CHECKED = 1.0
"""Seconds for which a check of who is there is good."""

# uvicorn, which runs vLLM's server too, closes idle connections after 5 s: a request sent just then would be lost.
_KEPT_IDLE = 4.0
_UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# An answer's headers are the upstream's to choose: our request names none that the caller did not send.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_running = Gauge("localemp_upstream_running", "Requests that a server behind us is working on.", ["target"])
_failures = Counter("localemp_upstream_failures", "Requests that a server behind us failed.", ["target", "reason"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for an upstream.

    Attributes:
        connect: For a connection, TLS included.
        first_byte: For the first byte of an answer's body, counted from the request.
        between: For each further chunk.
    """

    connect: float = 10.0
    first_byte: float = 600.0
    between: float = 120.0


class Replica:
    """One server.

    Args:
        url: Its base URL, with "/v1".
        key: Ours for it, which the log does not tell.

    Attributes:
        url: Its base URL.
        proxy: Through which it is reached, from the environment as usual (HTTPS_PROXY, NO_PROXY).
        running: Requests that it is working on.
        turn: When it was last chosen, as a running number.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url, self._key = shown_url(url), key
        parts = urlsplit(self.url)
        if "@" in urlsplit(url).netloc or urlsplit(url).query:
            raise OptionError(
                f"{self.url} is given with a password or a query",
                "write it like http://localhost:8000/v1, with no more",
            )
        host = parts.hostname or ""
        self.proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
        self.running, self.turn, self._out_until = 0, 0, 0.0
        self._base = URL(self.url)
        _running.labels(self.url).set_function(lambda: self.running)

    def address(self, request: Outgoing) -> URL:
        """Where a request goes: to this server, whatever its path is like."""
        return _below(self._base, request.path, request.query)

    @property
    def left_out(self) -> bool:
        """Whether it could not be connected to a moment ago."""
        return time.monotonic() < self._out_until

    def done(self, answer: aiohttp.ClientResponse) -> None:
        """Close an answer, whether it was read to its end or not."""
        answer.close()
        self.running -= 1

    def failed(self, reason: str, error: BaseException | None, leave_out: bool = False) -> None:
        """Count and log a failure; `leave_out` where it cannot be connected to."""
        if leave_out:
            self._out_until = time.monotonic() + LEFT_OUT
        _failures.labels(self.url, reason).inc()
        said = str(error) or type(error).__name__
        _log.warning("upstream %s: %s (%s)", self.url, reason, one_line(mask_key(said, self._key or "")))

    async def listens(self) -> bool:
        """Whether it, or the proxy before it, takes a connection within a second."""
        parts = urlsplit(self.proxy or self.url)
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        try:
            async with asyncio.timeout(CHECKED):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError:  # time-outs are one
            return False
        writer.close()
        return True


class Replicas:
    """All servers of an upstream; `open` before use, in the loop that uses them.

    Args:
        targets: Base URLs, with "/v1".
        timeouts: How long to wait.
        key: Ours for them; answers to it are unpacked, so that it can be looked for in them.

    Raises:
        OptionError: There is none, or one is no URL.
    """

    def __init__(self, targets: Sequence[str], timeouts: Timeouts, key: str | None = None) -> None:
        if not targets:
            raise OptionError("no upstream is named", "name one like http://localhost:8000/v1")
        self.all = [Replica(target, key) for target in targets]
        self._timeouts, self._unpack = timeouts, key is not None
        self._turns = 0
        self._session: aiohttp.ClientSession | None = None
        self._checking, self._checked, self._there = asyncio.Lock(), float("-inf"), False

    async def open(self) -> None:
        """Open the pool: no cookies, no redirects followed, as many connections as are asked for."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_IDLE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect),
            skip_auto_headers=_NOT_ADDED,
            auto_decompress=self._unpack,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: Outgoing, deadline: float) -> tuple[Replica, aiohttp.ClientResponse]:
        """Send a request to the server with the fewest requests, and give its answer as soon as its headers are there.

        A request is sent again, to the next server, only where no connection came about, so that none is carried out
        twice. Whoever asks has the answer closed by `Replica.done`: before its end, that tells the server to stop.

        Args:
            request: What is sent.
            deadline: When headers must be there, in the loop's time.

        Raises:
            RequestError: No server can be reached (503), or the one asked does not answer in time (504), broke off or
                answered with what is no HTTP (502).
        """
        untried = list(self.all)
        while True:
            replica = self._next(untried)
            untried.remove(replica)
            replica.running += 1
            answer = None
            try:
                answer = await self._answer_of(replica, request, deadline, last=not untried)
            finally:
                if answer is None:
                    replica.running -= 1
            if answer is not None:
                return replica, answer

    async def _answer_of(
        self, replica: Replica, request: Outgoing, deadline: float, last: bool
    ) -> aiohttp.ClientResponse | None:
        """One server's answer; None where no connection came about and it was not the last one."""
        try:
            return await self._send(replica, request, deadline)
        except _UNCONNECTED as error:
            replica.failed("unreachable", error, leave_out=True)
            if not last:
                return None
            if isinstance(error, TimeoutError):
                raise failure(504, "upstream_timeout", "the upstream takes no connection in time") from error
            raise failure(503, "upstream_unreachable", "the upstream cannot be reached") from error
        except RequestError:
            raise
        except Exception as error:  # whatever aiohttp makes of what is no HTTP
            raise broken(replica, error) from error

    async def reachable(self) -> bool:
        """Whether at least one server takes connections; looked at once a second at most."""
        async with self._checking:
            if time.monotonic() - self._checked > CHECKED:
                self._there = any(await asyncio.gather(*(replica.listens() for replica in self.all)))
                self._checked = time.monotonic()
            return self._there

    def _next(self, among: Sequence[Replica]) -> Replica:
        chosen = min(among, key=lambda replica: (replica.left_out, replica.running, replica.turn))
        self._turns += 1
        chosen.turn = self._turns
        return chosen

    async def _send(self, replica: Replica, request: Outgoing, deadline: float) -> aiohttp.ClientResponse:
        assert self._session is not None, "open() first"
        url = replica.address(request)
        async with asyncio.timeout_at(deadline):
            return await self._session.request(
                request.method,
                url,
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
                proxy=replica.proxy,
            )


@lru_cache(maxsize=128)
def _below(base: URL, path: str, query: str) -> URL:
    """A URL of the same scheme, host and port; nothing is put together as text that is then read again."""
    whole = base.raw_path.rstrip("/") + path
    found = URL(SplitResult(base.scheme, base.raw_authority, whole, query, ""), encoded=True)
    if (found.scheme, found.host, found.port) != (base.scheme, base.host, base.port):
        raise RequestError("this path leads to another server", code="not_found", status=404)
    return found


def broken(replica: Replica, error: BaseException | None, begun: bool = False) -> RequestError:
    """Count and log an answer that did not come, or not as a whole; gives what the client is told.

    Args:
        replica: The server.
        error: What became of the answer.
        begun: Whether some of it has come.
    """
    late = isinstance(error, TimeoutError)
    replica.failed("timeout" if late else "broken", error)
    if late:
        said = "the upstream fell silent in its answer" if begun else "the upstream gave no answer in time"
        return failure(504, "upstream_timeout", said)
    said = "the upstream broke off in its answer" if begun else "the upstream broke off, or gave no answer of HTTP"
    return failure(502, "upstream_broken", said)


def failure(status: int, code: str, message: str) -> RequestError:
    """What a client is told; where the upstream is, only the log says."""
    retry = ((b"retry-after", str(round(LEFT_OUT)).encode()),) if status == 503 else ()
    return RequestError(message, code=code, status=status, kind="server_error", headers=retry)
