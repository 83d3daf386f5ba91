"""A model's server that middleware can wrap: a real ASGI app in vLLM's form, which answers by what it is asked.

It says "I hear you: LAST WORDS", or what a message tells it to: "say: TEXT". A reply "refuse: TEXT" is a refusal. What
it was asked is in `asked`.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import uvicorn
from patience import patience
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

CONTEXT = 4000  # characters


class ModelApp:
    """The app and what it saw.

    Attributes:
        asked: Bodies of all chat requests.
        running, most_at_once: Chat requests under way now, and the most there were.
        reply: What it says to a request.
        refuses: Fields that it refuses.
        slow: Seconds before each word.
        ends: Why it ends.
        adapters: The names of its adapted models.
    """

    def __init__(self, adapters: tuple[str, ...] = ()) -> None:
        self.adapters = adapters
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.running = self.most_at_once = 0
        self.reply: Callable[[dict[str, Any]], str] = _reply
        self.refuses: set[str] = set()
        self.slow = 0.0
        self.ends = "stop"
        self.breaks = False
        routes = [
            Route("/health", lambda _: PlainTextResponse("")),
            Route("/metrics", lambda _: PlainTextResponse("vllm:up 1\n")),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", lambda _: JSONResponse({"object": "text_completion"}), methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def models(self, _: Request) -> Response:
        card = {"id": "tiny", "object": "model", "created": 1, "owned_by": "vllm", "root": "/weights", "parent": None}
        adapted = [card | {"id": name, "root": "/adapter", "parent": "tiny"} for name in self.adapters]
        data = [card | {"max_model_len": 4096}, *(each | {"max_model_len": None} for each in adapted)]
        return JSONResponse({"object": "list", "data": [each | {"permission": []} for each in data]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if body["model"] not in ("tiny", *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        length = sum(len(str(message["content"])) for message in body["messages"])
        if length > CONTEXT:
            return _error(400, f"This model's maximum context length is 1000 tokens, {length} were given.")
        try:
            _Sampling.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            return _error(400, first["msg"], param=".".join(map(str, first["loc"])))
        if "too many" in str(body["messages"][-1]["content"]):
            return _error(429, "slow down", "rate_limit_error", headers={"retry-after": "7"})
        if refused := sorted(self.refuses & body.keys()):
            return _error(400, f"Unsupported parameter: '{refused[0]}' is not supported with this model.")
        reply = self.reply(body)
        refuses, reply = reply.startswith("refuse: "), reply.removeprefix("refuse: ")
        words = reply.split(" ")
        counted = {"prompt_tokens": length, "completion_tokens": len(words), "total_tokens": length + len(words)}
        head = {"id": f"chat-{len(self.asked)}", "created": 1, "model": body["model"]}
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        if body.get("stream"):
            return StreamingResponse(self._stream(body, words, head, counted, refuses), media_type="text/event-stream")
        try:
            for _ in words:
                await self._wait(request)
        finally:
            self.running -= 1
        message = {"role": "assistant", "content": None if refuses else reply, "refusal": reply if refuses else None}
        choices = [{"index": n, "message": message, "finish_reason": self.ends} for n in range(body.get("n") or 1)]
        return JSONResponse(head | {"object": "chat.completion", "choices": choices, "usage": counted})

    async def _stream(
        self, body: dict[str, Any], words: list[str], head: dict[str, Any], counted: dict[str, Any], refuses: bool
    ) -> AsyncIterator[str]:
        head, key = head | {"object": "chat.completion.chunk"}, "refusal" if refuses else "content"
        try:
            yield _event(head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
            for number, word in enumerate(words):
                await asyncio.sleep(self.slow)
                if self.breaks and number == 2:
                    yield _event({"error": {"message": "the engine died", "type": "server_error", "code": 500}})
                    return
                text = word if number == 0 else f" {word}"
                ended = self.ends if number == len(words) - 1 else None
                yield _event(head | {"choices": [{"index": 0, "delta": {key: text}, "finish_reason": ended}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _event(head | {"choices": [], "usage": counted})
            yield "data: [DONE]\n\n"
        finally:
            self.running -= 1

    async def _wait(self, request: Request) -> None:
        await asyncio.sleep(self.slow)
        if self.slow and await request.is_disconnected():
            raise asyncio.CancelledError


class _Sampling(BaseModel):
    """What vLLM checks, too."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    stop: list[str] | str | None = None
    stream_options: dict[str, bool] | None = None


def _reply(body: dict[str, Any]) -> str:
    last = str(body["messages"][-1]["content"])
    if "say: " in last:
        return last.partition("say: ")[2].partition("\n\n")[0]
    if last.startswith("Now combine your thoughts"):
        return "I hear you, and I am with you"
    if "Don't rush to reply yet, let's think" in last:
        return "The user's emotion may be sad."
    return f"I hear you: {last.split('.')[0][:60]}"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _error(
    status: int, message: str, kind: str = "BadRequestError", param: str | None = None, headers: Any = None
) -> Response:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": error}, status, headers)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An app behind a real socket; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(patience(10))
