"""A real server in a thread that answers chats as it is told, so that a client can be measured."""

import asyncio
import json
import threading
import zlib
from typing import Any, Self

from aiohttp import web
from patience import patience


class ChatServer:
    """Serves one model while it is entered. Its attributes may be changed at any time.

    Attributes:
        model: What it lists.
        key: What it wants to be shown, if anything.
        words: Texts of the chunks of a reply.
        tokens: What it says that they are; None where it counts nothing.
        wait: Seconds before the first word.
        gap: Seconds before each further word.
        stalls_after: So many streams are answered; all later ones never end.
        ending: How a stream ends: "done", "no done", "cut", "break" or "error".
        encoding: How answers are compressed, whatever a request accepts.
        streams: Whether it streams; if not, it sends the whole answer instead.
        refuses: A field of a request that it does not know.
        asked: Bodies of all streamed requests.
    """

    def __init__(self) -> None:
        self.model, self.key, self.refuses, self.ending = "tiny", "", "", "done"
        self.encoding, self.streams = "", True
        self.words, self.tokens = ["That ", "sounds ", "hard."], 7
        self.wait = self.gap = 0.0
        self.stalls_after = 10**9
        self.asked: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(patience(10))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(patience(10))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, f"no such key: {request.headers.get('Authorization')}")
        return await handler(request)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] != self.model:
            return _error(404, f"no model {body['model']}")
        if self.refuses in body:
            return _error(400, f"unknown field {self.refuses}")
        usage = {} if self.tokens is None else {"usage": {"prompt_tokens": 5, "completion_tokens": self.tokens}}
        if body.get("stream") and not self.streams:
            self.asked.append(body)
        if not body.get("stream") or not self.streams:
            message = {"role": "assistant", "content": "".join(self.words)}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **usage})
        self.asked.append(body)
        stalls = len(self.asked) > self.stalls_after
        coding = {"Content-Encoding": self.encoding} if self.encoding else {}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **coding})
        await response.prepare(request)
        squeeze = zlib.compressobj(wbits=31)

        async def send(content: Any) -> None:
            event = f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()
            if self.encoding == "gzip":
                event = squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            await response.write(event)

        await send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(self.wait)
        for number, word in enumerate(self.words):
            await asyncio.sleep(self.gap if number else 0)
            await send({"choices": [{"index": 0, "delta": {"content": word}}]})
            if stalls:
                await asyncio.sleep(60)
        if self.ending == "break":
            request.transport.close()
            return response
        if self.ending == "cut":
            return response
        if self.ending == "error":
            await send({"error": {"message": "the engine died"}})
        await send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if usage:
            await send({"choices": [], **usage})
        if self.ending != "no done":
            await send("[DONE]")
        if self.encoding == "gzip":
            await response.write(squeeze.flush())
        return response


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)
