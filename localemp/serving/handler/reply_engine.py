"""The engine of a strategy's last stage: the model's reply becomes the client's response, streamed or not."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message, Send

from localemp.dialogue import Message as ChatMessage
from localemp.engines.base import Completion, Engine
from localemp.protocol.completions import MAX_RESPONSE_BYTES, Choice
from localemp.protocol.compression import Decompressor
from localemp.protocol.errors import MAX_ERROR_BYTES, MalformedResponseError, ResponseError
from localemp.sampling import Sampling
from localemp.serving.handler.app_engine import AppEngine, UpstreamError, encoding_of, error_of, without_body_headers
from localemp.serving.handler.reply_stream import DONE, ReplyStream, event
from localemp.serving.schema import ChatRequest
from localemp.strategies.base import Response
from localemp.strategies.cleaning import clean_reply
from localemp.utils.together import together
from localemp.web.asgi import BufferedSend, RawHeaders, json_bytes

# Fields of the client's request that are not for a candidate.
_OF_STREAMS = ("stream", "stream_options", "n")


class ReplyEngine(Engine):
    """Answers the stage "reply" and sends the client's response.

    Args:
        engine: The engine of the earlier stages.
        request: The client's request; its sampling, `n`, `stop`, `seed`, `logprobs` and `response_format` are for
            this stage.
        send: Sends to the client.
        model: The name of the model that the client asked for.
        keep_thinking: Whether the model's thinking stays in the text.
        trims: Whether a truncated reply is cut at its last whole sentence.

    Attributes:
        started: Whether the response has started.
    """

    def __init__(
        self,
        engine: AppEngine,
        request: ChatRequest,
        send: Send,
        *,
        model: str,
        keep_thinking: bool = False,
        trims: bool = False,
    ) -> None:
        self.engine, self.request, self.model, self.send = engine, request, model, send
        self.started = False
        self._answer: dict[str, Any] = {}
        self._head: dict[str, Any] = {}  # what all chunks of the stream have in common
        self._candidates: list[tuple[Completion, dict[str, Any]]] = []
        # Log probabilities belong to single tokens, and a response format is one of its own: neither text may change.
        logprobs, formatted = request.rest.get("logprobs"), request.rest.get("response_format")
        self._splits = not (keep_thinking or logprobs)
        ours = bool(request.strategy)  # the bare model's reply stays as it is
        self._cleans, self._trims = ours and not (logprobs or formatted), ours and trims

    async def chat(self, messages: Sequence[ChatMessage], sampling: Sampling) -> Completion:
        """Answer the stage; a stream goes to the client as it comes. Raises as `AppEngine.chat` does."""
        started = time.perf_counter()
        if self.request.stream:
            return await self._stream(messages, sampling, started)
        answer, _ = await self.engine.ask(messages, sampling, self.request.rest)
        choices = [self._rewrite(choice) for choice in answer.choices]
        self._answer = {**answer.fields, "choices": [choice for choice, _, _ in choices]}
        _, text, thinking = choices[0]
        return self.engine.complete(text, thinking, answer.choices[0].finish_reason, answer.usage, started=started)

    async def candidates(self, messages: Sequence[ChatMessage], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers, of which `finish` sends the one that is chosen. Raises as `AppEngine.chat` does."""
        return await together(self._candidate(messages, sampling, each) for each in range(number))

    async def _candidate(self, messages: Sequence[ChatMessage], sampling: Sampling, number: int) -> Completion:
        started = time.perf_counter()
        given = {key: value for key, value in self.request.rest.items() if key not in _OF_STREAMS}
        seed = given.get("seed") if given.get("seed") is not None else sampling.seed
        given |= {} if seed is None else {"seed": seed + number}
        answer, _ = await self.engine.ask(messages, sampling, given)
        first = answer.choices[0]
        text, thinking = self.engine.split(first)
        completion = self.engine.complete(text, thinking, first.finish_reason, answer.usage, started=started)
        self._candidates.append((completion, {**answer.fields, "choices": [self._rewrite(first)[0]]}))
        return completion

    async def finish(self, response: Response | None, trace: Mapping[str, Any] | None) -> None:
        """Send the rest: the whole response, or the end of the stream.

        Args:
            response: The strategy's response; None for the bare model.
            trace: What happened inside, if the client asked for it.
        """
        if self._candidates and response is not None:
            await self._choose(response.stages[-1].completion)
        extra = {} if trace is None else {"localemp": trace}
        usage = self.engine.tokens.as_usage(self._answer.get("usage"))
        if not self.request.stream:
            await self._send_json(self._answer | {"model": self.model, "usage": usage} | extra)
            return
        ending = []
        if self.request.usage and usage is not None:
            ending.append(event(self._head | {"choices": [], "usage": usage}))
        if trace is not None:
            ending.append(event(self._head | {"choices": []} | extra))
        await self.send({"type": "http.response.body", "body": b"".join([*ending, DONE])})

    async def fail(self, content: Mapping[str, Any]) -> None:
        """End a stream that has started with an error."""
        await self.send({"type": "http.response.body", "body": event(content)})

    def describe(self) -> dict[str, Any]:
        """Return nothing: no manifest records a server's engine."""
        return {}

    async def _choose(self, chosen: Completion) -> None:
        """Take the answer that was chosen among candidates; in a stream it is one chunk."""
        self._answer = next(answer for completion, answer in self._candidates if completion is chosen)
        if self.request.stream:
            own = {"model": self.model, "object": "chat.completion.chunk"}
            self._head = {key: value for key, value in self._answer.items() if key not in ("choices", "usage")} | own
            choices = [
                {key: value for key, value in choice.items() if key != "message"} | {"delta": choice["message"]}
                for choice in self._answer["choices"]
            ]
            await self._pass_on([], [self._head | {"choices": choices}])

    def _rewrite(self, choice: Choice) -> tuple[dict[str, Any], str, str]:
        """Return a choice as the client gets it, its text before it is cleaned, and its thinking."""
        text, thinking = self.engine.split(choice) if self._splits else (choice.text, choice.thinking)
        message = {key: value for key, value in choice.message.items() if key not in ("reasoning", "thinking")}
        if text or not choice.refusal:
            cleaned = clean_reply(text, choice.finish_reason, trims=self._trims) if self._cleans else text
            message |= {"content": cleaned}
        if thinking:
            message["reasoning_content"] = thinking
        return {**choice.fields, "message": message}, text, thinking

    async def _stream(self, messages: Sequence[ChatMessage], sampling: Sampling, started: float) -> Completion:
        given = dict(self.request.rest)
        given["stream_options"] = {**(given.get("stream_options") or {}), "include_usage": True}
        while True:  # each time with one field less that can be refused, which comes before anything is sent
            body = self.engine.body(messages, sampling, given)
            try:
                return await self._relay(body, sampling, started)
            except UpstreamError as error:
                if not self.engine.adapt(error, body, given):
                    raise

    async def _relay(self, body: Mapping[str, Any], sampling: Sampling, started: float) -> Completion:
        """Ask for a stream, and pass it on to the client."""
        splitter = self.engine.thinking.splitter if self._splits else None
        reply = ReplyStream(self.model, self.engine.tokens, cleans=self._cleans, trims=self._trims, splitter=splitter)
        response = BufferedSend(MAX_ERROR_BYTES)  # an error's body, and any response's headers
        decompressor: Decompressor | None = None
        broken: ResponseError | None = None

        async def take(message: Message) -> None:
            nonlocal decompressor, broken
            try:
                if message["type"] == "http.response.start" or decompressor is None:
                    await response(message)
                    if decompressor is None and response.status == 200:
                        decompressor = Decompressor(encoding_of(response.headers), MAX_RESPONSE_BYTES)
                    return
                for part in decompressor.feed(message.get("body", b"")):
                    await self._pass_on(response.headers, reply.feed(part))
            except ResponseError as error:
                broken = error  # the wrapped app ends now, and may turn it into another exception
                raise

        try:
            await self.engine.forward(body, take)
        except Exception:
            if broken is not None:
                raise broken from None
            raise
        if decompressor is None:
            raise error_of(response, sampling)
        await self._pass_on(response.headers, [*reply.feed(decompressor.end()), *reply.end()])
        if not self.started:
            raise MalformedResponseError("its stream is empty")
        self._head = reply.head
        return self.engine.complete(reply.text, reply.thinking, reply.reason, reply.usage, started=started)

    async def _pass_on(self, headers: RawHeaders, chunks: Sequence[Mapping[str, Any]]) -> None:
        if not chunks:
            return
        if not self.started:
            self.started = True
            own = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            headers = [*without_body_headers(headers), *own]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"".join(map(event, chunks)), "more_body": True})

    async def _send_json(self, content: Mapping[str, Any]) -> None:
        body = json_bytes(content)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
