"""A real HTTP server behind the page: it speaks what `localemp serve` speaks, and answers as it is told."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from localemp.web.page_files import page_responses

PAGE = Path(__file__).parents[2] / "localemp" / "serving" / "page"
STRATEGIES = ("zero-shot", "few-shot", "similar", "two-stage", "knowledge", "similar+knowledge+two-stage")
REPLY = ("Losing", " a job", " after", " nine years", " is a real loss.", " What", " weighs on you", " most right now?")


@dataclass(frozen=True)
class Answer:
    """What to do about one chat request.

    Attributes:
        pieces: The reply, as it is streamed.
        trace: Sent before the end, where it was asked for.
        status, headers, error: With a status other than 200, this refusal. With 200, `error` breaks the stream off.
        pause: Seconds before each piece, and before a cut.
        endless: Never goes on after the pieces; only a client that leaves ends it.
        cut: The connection ends after the pieces, as if the server had died.
    """

    pieces: tuple[str, ...] = REPLY
    trace: dict[str, Any] | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    pause: float = 0.0
    endless: bool = False
    cut: bool = False


def refusal(status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None) -> Answer:
    """An answer that is an error from the start."""
    return Answer(status=status, headers=headers or {}, error={"message": message, "code": code})


class PageServer:
    """Answers each model from `answers` in turn, then with an ordinary reply; everything asked is in `chats`.

    Attributes:
        keys: Those that it takes; empty: no key is needed.
        adapters: The names of the model's adapters.
        ready: Whether it lists its models.
        left: Set when a client has gone away from an endless answer.
    """

    def __init__(
        self,
        *answers: Answer,
        by_model: dict[str, Answer] | None = None,
        keys: tuple[str, ...] = (),
        adapters: tuple[str, ...] = (),
    ) -> None:
        self.adapters = adapters
        self.answers, self.by_model, self.keys = list(answers), by_model or {}, keys
        self.chats: list[dict[str, Any]] = []
        self.ready = True
        self.left = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _app(self) -> Starlette:
        files = page_responses(PAGE)
        return Starlette(
            routes=[
                Route("/", lambda _: files["index.html"]),
                Route("/page/{name}", lambda request: files[request.path_params["name"]]),
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if not self.ready:
            return JSONResponse({"error": {"message": "the engine is starting"}}, 503)
        return self._without_key(request) or JSONResponse(
            {"object": "list", "data": _listing("smollm2", self.adapters)}
        )

    async def _chat(self, request: Request) -> Response:
        if refused := self._without_key(request):
            return refused
        body = await request.json()
        self.chats.append(body)
        answer = self.by_model.get(body["model"]) or (self.answers.pop(0) if self.answers else Answer())
        if answer.status != 200:
            return JSONResponse({"error": answer.error}, answer.status, answer.headers)
        traced = body.get("localemp", {}).get("trace", False)
        return StreamingResponse(self._events(answer, traced), media_type="text/event-stream")

    def _without_key(self, request: Request) -> Response | None:
        if not self.keys or request.headers.get("authorization") in {f"Bearer {key}" for key in self.keys}:
            return None
        return JSONResponse({"error": {"message": "Invalid API key", "code": "invalid_api_key"}}, 401)

    async def _events(self, answer: Answer, traced: bool) -> AsyncIterator[str]:
        yield _event(choices=[{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}])
        for piece in answer.pieces:
            await asyncio.sleep(answer.pause)
            yield _event(choices=[{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
        if answer.endless:
            await self._until_left()
        if answer.error:
            yield _event(error=answer.error)
            return
        if answer.cut:
            await asyncio.sleep(answer.pause)
            raise ConnectionResetError
        yield _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if traced and answer.trace:
            yield _event(choices=[], localemp=answer.trace)
        yield "data: [DONE]\n\n"

    async def _until_left(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


def _event(**content: Any) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **content})}\n\n"


def _listing(model: str, adapters: tuple[str, ...]) -> list[dict[str, Any]]:
    bare: list[dict[str, Any]] = [{"id": model, "owned_by": "vllm", "root": f"/models/{model}", "parent": None}]
    bare[0]["sampling"] = {"temperature": 0.0, "max_tokens": 64, "top_k": 40}
    bare += [{**bare[0], "id": f"{model}@{name}", "parent": model, "adapter": name} for name in adapters]
    ours = [
        {**each, "id": f"{each['id']}:{strategy}", "owned_by": "localemp", "root": each["id"], "parent": each["id"]}
        for each in bare
        for strategy in STRATEGIES
    ]
    return [{"object": "model", **each} for each in (*bare, *ours)]


TRACE = {
    "strategy": "similar+knowledge+two-stage",
    "variant": "paper",
    "stages": [
        {
            "name": "feeling",
            "messages": [
                {
                    "role": "system",
                    "content": "This is an empathetic dialogue task: The first worker (Speaker) is given ...",
                },
                {"role": "user", "content": "I lost my job today, after nine years.\n\nDon't rush to reply yet, ..."},
            ],
            "text": "The user may feel devastated. The situation: being let go from a job held for nine years.",
            "finish_reason": "stop",
            "prompt_tokens": 239,
            "completion_tokens": 20,
            "seconds": 0.81,
            "exemplars_dropped": 0,
        },
        {
            "name": "reply",
            "messages": [
                {"role": "user", "content": "Now combine your thoughts with the existing dialogue context ..."}
            ],
            "text": "".join(REPLY),
            "finish_reason": "stop",
            "prompt_tokens": 301,
            "completion_tokens": 31,
            "seconds": 1.2,
            "exemplars_dropped": 1,
        },
    ],
    "exemplars": [
        {
            "id": "hit:1_conv:2",
            "turns": [
                "They closed our office last week and all of us were sent home for good.",
                "Oh no. How are you holding up?",
                "Not well. I had been there for longer than I care to count.",
                "That must feel like losing a part of yourself.",
            ],
            "score": 0.61,
        },
        {
            "id": "hit:7_conv:14",
            "turns": ["I did not get the promotion.", "I am sorry, you had hoped for it."],
            "score": 0.48,
        },
    ],
    "inferences": {"xReact": ["sad", "lost"], "xWant": ["to find a new job"], "xEffect": ["worries about money"]},
    "inferences_dropped": {
        "xReact": [{"text": "happy", "reason": "below the cut-off", "value": 0.11}],
        "xNeed": [{"text": "none", "reason": "says nothing", "value": None}],
    },
    "seconds": {"lookup": 0.03, "feeling": 0.81, "reply": 1.2, "all": 2.04},
}
