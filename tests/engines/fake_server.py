"""A real HTTP server that speaks as much of the OpenAI protocol as the tests need, and does what it is told."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

REPLY = "That sounds hard."
USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]
    monotonic: float


@dataclass(frozen=True)
class Answer:
    """What to do about one request.

    `body` None is an ordinary completion, text and bytes go out as they are; "before" and "inside" cut the connection.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: Literal["", "before", "inside"] = ""


def error(status: int, message: str = "no", headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """An error as OpenAI words it; `fields` are code, param and type."""
    return Answer(status, {"error": {"message": message, **fields}}, headers or {})


def completion(path: str = "/v1/chat/completions", **changes: Any) -> dict[str, Any]:
    """The body of an ordinary completion; `changes` go into the choice, `usage` into the body."""
    usage = changes.pop("usage", USAGE)
    text = (
        {"message": {"role": "assistant", "content": REPLY}} if path.endswith("/chat/completions") else {"text": REPLY}
    )
    choice = {"index": 0, "finish_reason": "stop", **text, **changes}
    return {"id": "1", "object": "completion", "choices": [choice], **({"usage": usage} if usage else {})}


class FakeServer:
    """Answers from `answers` in turn, then by `rule`, then with an ordinary completion.

    Attributes:
        answers, models: May be changed at any time.
        requests: All POST requests, in the order in which they came.
        listings: All GET requests.
        most_at_once: The most POST requests that were under way together.
    """

    def __init__(
        self,
        answers: Sequence[Answer] = (),
        rule: Callable[[Request], Answer | None] | None = None,
        models: Answer | None = None,
        delay: float = 0.0,
    ) -> None:
        self.requests: list[Request] = []
        self.listings: list[Request] = []
        self.most_at_once = 0
        self.answers, self._rule, self._delay = list(answers), rule, delay
        self.models = models or Answer(body={"object": "list", "data": [{"id": "tiny", "object": "model"}]})
        self._at_once, self._lock = 0, threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """What to do about one request; counts it."""
        if request.method == "GET":
            self.listings.append(request)
            return self.models
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            chosen = self.answers.pop(0) if self.answers else None
        if chosen is None and self._rule:
            chosen = self._rule(request)
        chosen = chosen or Answer(body=completion(request.path))
        time.sleep(chosen.delay or self._delay)
        with self._lock:
            self._at_once -= 1
        return chosen


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._respond({})

    def do_POST(self) -> None:
        self._respond(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _respond(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, time.monotonic())
        answer = self.server.fake.answer(request)
        if answer.cut == "before":
            self.close_connection = True
            return
        content = answer.body if answer.body is not None else completion(self.path)
        raw = content.encode() if isinstance(content, str) else content
        raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if answer.cut == "inside":
            raw = raw[: len(raw) // 2]
            self.close_connection = True
        self.wfile.write(raw)
