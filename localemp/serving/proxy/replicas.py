"""The servers of an upstream: chooses the next one to ask, over one pool of connections.

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
from localemp.serving.errors import RequestError
from localemp.serving.proxy.request import UpstreamRequest
from localemp.utils.plain_errors import in_words
from localemp.utils.redaction import mask_key
from localemp.utils.text import one_line

BACK_OFF = 5.0
"""Seconds for which an unreachable server is asked only if no other can be."""
CHECK_SECONDS = 1.0
"""Seconds for a check of reachability, and for which its result is kept."""

# uvicorn, which also runs vLLM's server, closes idle connections after 5 s: a request sent just then would be lost.
_KEEP_ALIVE = 4.0
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# The upstream chooses by these headers: send none that the client did not send.
_NO_DEFAULTS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_running = Gauge("localemp_upstream_running", "Requests that an upstream server is working on.", ["target"])
_failures = Counter("localemp_upstream_failures", "Requests that failed at an upstream server.", ["target", "reason"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for an upstream.

    Attributes:
        connect: For a connection, including TLS.
        first_byte: From the request to the first byte of the response's body.
        between: For each further chunk.
    """

    connect: float = 10.0
    first_byte: float = 600.0
    between: float = 120.0


class Replica:
    """One server.

    Args:
        url: Its base URL, with "/v1".
        key: The operator's key for it, which is kept out of the log.

    Attributes:
        url: Its base URL.
        proxy: The HTTP proxy to it, from the environment (HTTPS_PROXY, NO_PROXY).
        running: The number of requests that it is working on.
        turn: The running number of the request for which it was last chosen.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url, self._key = shown_url(url), key
        parts = urlsplit(self.url)
        if "@" in urlsplit(url).netloc or urlsplit(url).query:
            raise OptionError(
                f"{self.url} was given with a password or a query",
                "write it like http://localhost:8000/v1",
            )
        host = parts.hostname or ""
        self.proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
        self.running, self.turn, self._unreachable_until = 0, 0, 0.0
        self._base = URL(self.url)
        _running.labels(self.url).set_function(lambda: self.running)

    def address(self, request: UpstreamRequest) -> URL:
        """Return the URL of a request at this server."""
        return _below(self._base, request.path, request.query)

    @property
    def unreachable(self) -> bool:
        """Whether connecting to it failed a moment ago."""
        return time.monotonic() < self._unreachable_until

    def done(self, response: aiohttp.ClientResponse) -> None:
        """Close a response, whether it was read to its end or not."""
        response.close()
        self.running -= 1

    def failed(self, reason: str, error: BaseException | None, unreachable: bool = False) -> None:
        """Count and log a failure; `unreachable` if connecting failed."""
        if unreachable:
            self._unreachable_until = time.monotonic() + BACK_OFF
        _failures.labels(self.url, reason).inc()
        why = "" if error is None else f" ({one_line(mask_key(in_words(error), self._key or ''))})"
        _log.warning("upstream %s: %s%s", self.url, reason, why)

    async def listens(self) -> bool:
        """Whether it, or the HTTP proxy in front of it, accepts a connection within a second."""
        parts = urlsplit(self.proxy or self.url)
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError:  # includes timeouts
            return False
        writer.close()
        return True


class Replicas:
    """All servers of an upstream. Call `open` before use, in the event loop that uses them.

    Args:
        targets: Base URLs, with "/v1".
        timeouts: How long to wait.
        key: The operator's key for them; with it, responses are decompressed so that the key can be redacted.

    Raises:
        OptionError: There is no target, or one is not a valid URL.
    """

    def __init__(self, targets: Sequence[str], timeouts: Timeouts, key: str | None = None) -> None:
        if not targets:
            raise OptionError("no upstream is given", "give one like http://localhost:8000/v1")
        self.all = [Replica(target, key) for target in targets]
        self._timeouts, self._decompress = timeouts, key is not None
        self._turns = 0
        self._session: aiohttp.ClientSession | None = None
        self._checking, self._checked_at, self._reachable = asyncio.Lock(), float("-inf"), False

    async def open(self) -> None:
        """Open the pool: no cookies, no redirects, no limit of connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect),
            skip_auto_headers=_NO_DEFAULTS,
            auto_decompress=self._decompress,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: UpstreamRequest, deadline: float) -> tuple[Replica, aiohttp.ClientResponse]:
        """Send a request to the least busy server, and return its response as soon as the headers are there.

        A request is sent to the next server only if no connection was made, so that none is carried out twice. The
        caller closes the response by `Replica.done`; in mid-response that tells the server to stop.

        Args:
            request: The request to send.
            deadline: When the headers must be there, in the loop's time.

        Raises:
            RequestError: No server can be reached (503), or the one asked does not respond in time (504), or breaks
                off or sends invalid HTTP (502).
        """
        untried = list(self.all)
        while True:
            replica = self._choose(untried)
            untried.remove(replica)
            replica.running += 1
            response = None
            try:
                response = await self._try(replica, request, deadline, last=not untried)
            finally:
                if response is None:
                    replica.running -= 1
            if response is not None:
                return replica, response

    async def _try(
        self, replica: Replica, request: UpstreamRequest, deadline: float, last: bool
    ) -> aiohttp.ClientResponse | None:
        """Return one server's response; None if no connection was made and it is not the last server."""
        try:
            return await self._send(replica, request, deadline)
        except _NOT_CONNECTED as error:
            replica.failed("unreachable", error, unreachable=True)
            if not last:
                return None
            if isinstance(error, TimeoutError):
                raise failure(504, "upstream_timeout", "the upstream did not accept a connection in time") from error
            raise failure(503, "upstream_unreachable", "the upstream cannot be reached") from error
        except RequestError:
            raise
        except Exception as error:  # whatever aiohttp raises for invalid HTTP
            raise broken(replica, error) from error

    async def reachable(self) -> bool:
        """Whether at least one server accepts connections; checked once a second at most."""
        async with self._checking:
            if time.monotonic() - self._checked_at > CHECK_SECONDS:
                self._reachable = any(await asyncio.gather(*(replica.listens() for replica in self.all)))
                self._checked_at = time.monotonic()
            return self._reachable

    def _choose(self, among: Sequence[Replica]) -> Replica:
        chosen = min(among, key=lambda replica: (replica.unreachable, replica.running, replica.turn))
        self._turns += 1
        chosen.turn = self._turns
        return chosen

    async def _send(self, replica: Replica, request: UpstreamRequest, deadline: float) -> aiohttp.ClientResponse:
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
    """Return a URL of the same scheme, host and port; no URL is joined as text and parsed again."""
    whole = base.raw_path.rstrip("/") + path
    found = URL(SplitResult(base.scheme, base.raw_authority, whole, query, ""), encoded=True)
    if (found.scheme, found.host, found.port) != (base.scheme, base.host, base.port):
        raise RequestError("this path leads to another server", code="not_found", status=404)
    return found


def broken(replica: Replica, error: BaseException | None, started: bool = False) -> RequestError:
    """Count and log a response that is missing or incomplete, and return the error for the client.

    Args:
        replica: The server.
        error: What went wrong.
        started: Whether a part of the response was there.
    """
    late = isinstance(error, TimeoutError)
    replica.failed("timeout" if late else "broken", error)
    if late:
        message = "the upstream stopped sending its response" if started else "the upstream did not respond in time"
        return failure(504, "upstream_timeout", message)
    message = (
        "the upstream broke off its response" if started else "the upstream broke off, or sent no valid HTTP response"
    )
    return failure(502, "upstream_broken", message)


def failure(status: int, code: str, message: str) -> RequestError:
    """Return the error for the client; only the log names the upstream's address."""
    retry = ((b"retry-after", str(round(BACK_OFF)).encode()),) if status == 503 else ()
    return RequestError(message, code=code, status=status, kind="server_error", headers=retry)
