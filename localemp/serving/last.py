"""The last stage of a strategy: the model's answer becomes the client's, whole or as it comes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, Sampling
from localemp.serving.asgi import Event, Headers, Send, Whole, send_json
from localemp.serving.inner import Inner, refusal, unframed, unreadable
from localemp.serving.requests import ChatRequest
from localemp.serving.stream import DONE, Chunks, event
from localemp.strategies.cleaning import clean_reply


class BrokenStreamError(Exception):
    """The model's server reported an error in the middle of a stream; the client has heard of it."""


class Last(Engine):
    """Answers the stage "reply" and writes the client's answer.

    Args:
        inner: Answers the stages before.
        request: The client's; sampling, `n`, `stop`, `seed`, `logprobs` and `response_format` are for this stage.
        model: The name that the client asked for.
        send: To the client.

    Attributes:
        begun: Whether something was sent to the client.
    """

    def __init__(self, inner: Inner, request: ChatRequest, model: str, send: Send) -> None:
        self.inner, self.request, self.model, self.send = inner, request, model, send
        self.begun = False
        self._answer: dict[str, Any] = {}
        # What belongs to single tokens, or has a form of its own, stays as it is.
        self._clean = not (request.rest.get("logprobs") or request.rest.get("response_format"))

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One request; a stream goes to the client as it comes. Raises as `Inner.chat` does.

        Raises:
            BrokenStreamError: The stream ended with an error.
        """
        started = time.perf_counter()
        if self.request.stream:
            return await self._stream(messages, sampling, started)
        answer = await self.inner.ask(self.inner.body(messages, sampling, self.request.rest), sampling)
        completion = self.inner.completion(answer, started)
        for choice in answer["choices"] if self._clean else ():
            choice["message"]["content"] = clean_reply(choice["message"]["content"] or "")
        self._answer = answer
        return completion

    async def end(self, trace: Mapping[str, Any] | None) -> None:
        """Send what is left: the whole answer, or the end of the stream.

        Args:
            trace: What happened inside, where the client asked for it.
        """
        told = {} if trace is None else {"localemp": trace}
        if not self.request.stream:
            usage = (self._answer.get("usage") or {}) | self.inner.usage
            await send_json(self.send, 200, self._answer | {"model": self.model, "usage": usage} | told)
            return
        ending = []
        if self.request.usage:
            ending.append(event(self._chunks.head | {"choices": [], "usage": self.inner.usage}))
        if trace is not None:
            ending.append(event(self._chunks.head | {"choices": []} | told))
        await self.send({"type": "http.response.body", "body": b"".join([*ending, DONE])})

    async def fail(self, content: Mapping[str, Any]) -> None:
        """End a stream that has begun with an error."""
        await self.send({"type": "http.response.body", "body": event(content)})

    def describe(self) -> dict[str, Any]:
        """Nothing: no manifest records a server's engine."""
        return {}

    async def _stream(self, messages: Sequence[Message], sampling: Sampling, started: float) -> Completion:
        given = self.request.rest
        options = {**(given.get("stream_options") or {}), "include_usage": True}
        self._chunks = Chunks(self.model, dict(self.inner.usage), self._clean)
        whole = Whole()

        async def take(message: Event) -> None:
            if message["type"] == "http.response.start" or whole.status != 200:
                await whole(message)
            else:
                await self._pass_on(whole.headers, self._chunks.feed(message.get("body", b"")))

        await self.inner.forward(self.inner.body(messages, sampling, {**given, "stream_options": options}), take)
        if whole.status != 200:
            raise refusal(whole, sampling)
        if not self.begun:
            raise unreadable()
        return self.inner.finished(self._chunks.text, self._chunks.reason, self._chunks.usage, started)

    async def _pass_on(self, headers: Headers, chunks: Sequence[Mapping[str, Any]]) -> None:
        if not chunks:
            return
        if not self.begun:
            self.begun = True
            kind = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self.send({"type": "http.response.start", "status": 200, "headers": [*unframed(headers), *kind]})
        failed = any("error" in chunk for chunk in chunks)
        await self.send({"type": "http.response.body", "body": b"".join(map(event, chunks)), "more_body": not failed})
        if failed:
            raise BrokenStreamError
