"""The last stage of a strategy: the model's answer becomes the client's, whole or as it comes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.protocol.answers import LARGEST_ANSWER, Choice
from localemp.protocol.compression import Decompressor
from localemp.protocol.errors import LARGEST_ERROR, AnswerError, UnreadableAnswerError
from localemp.sampling import Sampling
from localemp.serving.inner import Inner, encoding_of, refusal, unframed
from localemp.serving.schema import ChatRequest
from localemp.serving.stream import DONE, Chunks, event
from localemp.strategies.cleaning import clean_reply
from localemp.web.asgi import Event, Headers, Send, Whole, send_json


class Last(Engine):
    """Answers the stage "reply" and writes the client's answer.

    Args:
        inner: Answers the stages before.
        request: The client's; sampling, `n`, `stop`, `seed`, `logprobs` and `response_format` are for this stage.
        model: The name that the client asked for.
        send: To the client.
        keep_thinking: Whether what the model thinks stays in the text.

    Attributes:
        begun: Whether something was sent to the client.
    """

    def __init__(self, inner: Inner, request: ChatRequest, model: str, send: Send, keep_thinking: bool = False) -> None:
        self.inner, self.request, self.model, self.send = inner, request, model, send
        self.begun = False
        self._answer: dict[str, Any] = {}
        # What belongs to single tokens stays as it is; so does the form of what has one of its own.
        self._split = not (keep_thinking or request.rest.get("logprobs"))
        self._clean = not (request.rest.get("logprobs") or request.rest.get("response_format"))

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One request; a stream goes to the client as it comes. Raises as `Inner.chat` does."""
        started = time.perf_counter()
        if self.request.stream:
            return await self._stream(messages, sampling, started)
        answer = await self.inner.ask(self.inner.body(messages, sampling, self.request.rest), sampling)
        told = [self._said(choice) for choice in answer.choices]
        self._answer = {**answer.fields, "choices": [choice for choice, _, _ in told]}
        _, text, thinking = told[0]
        return self.inner.finished(text, thinking, answer.choices[0].finish_reason, answer.usage, started)

    async def end(self, trace: Mapping[str, Any] | None) -> None:
        """Send what is left: the whole answer, or the end of the stream.

        Args:
            trace: What happened inside, where the client asked for it.
        """
        told = {} if trace is None else {"localemp": trace}
        usage = self.inner.tokens.in_answer(self._answer.get("usage"))
        if not self.request.stream:
            await send_json(self.send, 200, self._answer | {"model": self.model, "usage": usage} | told)
            return
        ending = []
        if self.request.usage and usage is not None:
            ending.append(event(self._chunks.head | {"choices": [], "usage": usage}))
        if trace is not None:
            ending.append(event(self._chunks.head | {"choices": []} | told))
        await self.send({"type": "http.response.body", "body": b"".join([*ending, DONE])})

    async def fail(self, content: Mapping[str, Any]) -> None:
        """End a stream that has begun with an error."""
        await self.send({"type": "http.response.body", "body": event(content)})

    def describe(self) -> dict[str, Any]:
        """Nothing: no manifest records a server's engine."""
        return {}

    def _said(self, choice: Choice) -> tuple[dict[str, Any], str, str]:
        """A choice of a whole answer as the client gets it; its text before it is cleaned, and what was thought."""
        text, thinking = self.inner.said(choice) if self._split else (choice.text, choice.thinking)
        message = {key: value for key, value in choice.message.items() if key not in ("reasoning", "thinking")}
        message |= {"content": clean_reply(text) if self._clean else text}
        if thinking:
            message["reasoning_content"] = thinking
        return {**choice.fields, "message": message}, text, thinking

    async def _stream(self, messages: Sequence[Message], sampling: Sampling, started: float) -> Completion:
        given = self.request.rest
        options = {**(given.get("stream_options") or {}), "include_usage": True}
        thoughts = self.inner.thoughts if self._split else None
        self._chunks = chunks = Chunks(self.model, self.inner.tokens, self._clean, thoughts)
        whole = Whole(LARGEST_ERROR)
        packed: Decompressor | None = None
        wrong: AnswerError | None = None

        async def take(message: Event) -> None:
            nonlocal packed, wrong
            try:
                if message["type"] == "http.response.start" or packed is None:
                    await whole(message)
                    if packed is None and whole.status == 200:
                        packed = Decompressor(encoding_of(whole.headers), LARGEST_ANSWER)
                    return
                for part in packed.feed(message.get("body", b"")):
                    await self._pass_on(whole.headers, chunks.feed(part))
            except AnswerError as error:
                wrong = error  # the wrapped app is to end now, and may make something else of it
                raise

        try:
            await self.inner.forward(self.inner.body(messages, sampling, {**given, "stream_options": options}), take)
        except Exception:
            if wrong is not None:
                raise wrong from None
            raise
        if packed is None:
            raise refusal(whole, sampling)
        await self._pass_on(whole.headers, [*chunks.feed(packed.end()), *chunks.end()])
        if not self.begun:
            raise UnreadableAnswerError("its stream says nothing")
        return self.inner.finished(chunks.text, chunks.thinking, chunks.reason, chunks.usage, started)

    async def _pass_on(self, headers: Headers, chunks: Sequence[Mapping[str, Any]]) -> None:
        if not chunks:
            return
        if not self.begun:
            self.begun = True
            kind = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self.send({"type": "http.response.start", "status": 200, "headers": [*unframed(headers), *kind]})
        await self.send({"type": "http.response.body", "body": b"".join(map(event, chunks)), "more_body": True})
