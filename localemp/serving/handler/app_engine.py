"""The wrapped app as an engine: each stage of a strategy is one chat request to it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope, Send

from localemp.dialogue import Message as ChatMessage
from localemp.engines.base import Completion, Engine
from localemp.engines.labels import labels_of
from localemp.engines.openai.failures import is_too_long, refused_parameter
from localemp.engines.openai.requests import changes_for, further_fields, response_format
from localemp.errors import EngineError, PromptTooLongError, RefusalError
from localemp.protocol.completions import (
    MAX_RESPONSE_BYTES,
    Choice,
    ParsedCompletion,
    Usage,
    read_completion,
)
from localemp.protocol.compression import decompress
from localemp.protocol.errors import MAX_ERROR_BYTES, MalformedResponseError, ResponseError, ServerError
from localemp.sampling import Sampling
from localemp.serving.handler.thinking import ModelThinking
from localemp.serving.handler.usage import TokenSum
from localemp.utils.json_reader import JSONError, parse_json
from localemp.web.asgi import BufferedSend, RawHeaders, json_bytes, replay_body

# Headers of the body, which every response sets itself.
_BODY_HEADERS = {b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"connection", b"date"}
# Headers of the client's body, which is not the stage's, and what the client accepts.
_CLIENT_BODY_HEADERS = {
    b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"accept-encoding", b"expect",
}  # fmt: skip
# Fields that hold an answer to a schema, or to labels, which is vLLM's own.
_FORM, _LABELS = "response_format", "structured_outputs"
_REFUSED = "the model refuses it"
# Without these, vLLM's server takes those of the model's generation_config.json, which `generate` does not.
_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
CLEANUP_SECONDS = 1.0
"""Seconds for the wrapped app to free its slot after nobody waits for its response."""
_SMALL = 2**16  # bytes that are parsed in the event loop: less than handing them to a thread would take


class UpstreamError(EngineError):
    """The wrapped app responded with an error, which goes to the client unchanged.

    Attributes:
        status: The HTTP status.
        body: The error in OpenAI's form.
        headers: The response's headers, without those of the body.
    """

    def __init__(self, status: int, headers: RawHeaders, body: bytes) -> None:
        super().__init__(f"the model's server answered with status {status}")
        self.status, self.body = status, body
        self.headers = without_body_headers(headers)

    @property
    def refused(self) -> str | None:
        """The field of the request that the app refuses; None if the error is about something else."""
        return refused_parameter(ServerError.parse(self.body, self.status))

    def response(self) -> Response:
        """Return the response that tells the client."""
        response = Response(self.body, self.status, media_type="application/json")
        response.raw_headers += self.headers
        return response


@dataclass(slots=True)
class AppEngine(Engine):
    """Answers single stages.

    Attributes:
        app: The app that answers `/v1/chat/completions`.
        scope: The scope of the client's request, whose headers are passed on.
        model: The model behind the strategy, with its adapter: "llama", "llama@mine".
        gone: Set when the client has disconnected.
        extra: Further keys of every body, from the model's profile.
        thinking: Separates the model's thinking from its answers.
        changed: What became of fields that the app has refused: their new name, or None; shared by all requests.
        is_vllm: Whether the app is vLLM's, which ends thinking at a budget, and holds an answer to labels.
        tokens: The tokens of all stages so far.
    """

    app: ASGIApp
    scope: Scope
    model: str
    gone: asyncio.Event
    extra: Mapping[str, Any]
    thinking: ModelThinking
    changed: dict[str, str | None]
    is_vllm: bool = False
    tokens: TokenSum = field(default_factory=TokenSum)

    async def chat(self, messages: Sequence[ChatMessage], sampling: Sampling) -> Completion:
        """Answer one stage.

        Raises:
            ResponseError: The wrapped app failed with status 200, or its response is not a completion.
            ClientDisconnect: The client has gone.
            PromptTooLongError: The prompt does not fit the context.
            RefusalError: The model refused, or a content filter withheld the answer.
            UpstreamError: The wrapped app responded with another error.
        """
        started = time.perf_counter()
        answer, notes = await self.ask(messages, sampling, {})
        choice = answer.choices[0]
        if choice.withheld:
            raise RefusalError(choice.withheld)
        text, thinking = self.split(choice)
        completion = self.complete(text, thinking, choice.finish_reason, answer.usage, started=started)
        return replace(completion, notes=notes)

    def body(self, messages: Sequence[ChatMessage], sampling: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body; what the client has `given` overrides the strategy's sampling."""
        own = self._own(sampling, given)
        own = {new: value for name, value in own.items() if (new := self.changed.get(name, name)) is not None}
        stop = {"stop": own["stop"]} if "stop" in own else {}
        chosen = {
            self.changed.get(key) or key: value for key, value in given.items() if value is not None and key != "stop"
        }
        named = {"model": self.model, "messages": [asdict(message) for message in messages]}
        return own | dict(self.extra) | chosen | stop | named

    def _own(self, sampling: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that the strategy's sampling adds to what the client has given."""
        own: dict[str, Any] = dict(_NEUTRAL) if self.is_vllm else {}
        own |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if given.get("max_completion_tokens") is None:
            own["max_tokens"] = sampling.most_tokens
        if self.is_vllm and sampling.thinking_budget is not None:
            own["thinking_token_budget"] = _budget(sampling, given)
        own |= further_fields(sampling)
        if self.is_vllm and (labels := labels_of(sampling.schema)):
            own[_LABELS] = {"choice": labels}
        elif sampling.schema:
            own[_FORM] = response_format(sampling.schema)
        if sampling.seed is not None:
            own["seed"] = sampling.seed
        stop = given.get("stop") or []
        stops = [*([stop] if isinstance(stop, str) else stop), *sampling.stop]
        if given.get(_FORM) is not None or given.get(_LABELS) is not None:
            own = {name: value for name, value in own.items() if name not in (_FORM, _LABELS)}  # one form, the client's
        return own | ({"stop": stops} if stops else {})

    def adapt(self, error: UpstreamError, sent: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        """Record a field that the app refuses, to be left out or renamed; return False if the error has to stay.

        What the client itself has given is only renamed: it learns from the error that it cannot have it.
        """
        refused = error.refused
        changes = changes_for(refused) if refused in sent and refused not in self.extra else {}
        if any(new is None and given.get(name) is not None for name, new in changes.items()):
            return False
        self.changed |= changes
        return bool(changes)

    async def ask(
        self, messages: Sequence[ChatMessage], sampling: Sampling, given: Mapping[str, Any]
    ) -> tuple[ParsedCompletion, tuple[str, ...]]:
        """Return the completion for a request that is not streamed, and notes on what was dropped from it.

        Arguments are those of `body`. Raises as `chat` does.
        """
        while True:  # each time with one field less that can be refused
            body = self.body(messages, sampling, given)
            dropped = [name for name in self._own(sampling, given) if self.changed.get(name, name) is None]
            try:
                answer = await self._ask(body, sampling)
                if not answer.choices:
                    raise RefusalError(answer.blocked)
                return answer, tuple(f"{name} dropped: {_REFUSED}" for name in dropped)
            except UpstreamError as error:
                if not self.adapt(error, body, given):
                    raise

    async def _ask(self, body: Mapping[str, Any], sampling: Sampling) -> ParsedCompletion:
        response = BufferedSend(MAX_RESPONSE_BYTES)
        await self.forward(body, response)
        if response.status != 200:
            raise error_of(response, sampling)
        if response.truncated:
            raise MalformedResponseError("it is incomplete, or too large")
        content = decompress(response.body, encoding_of(response.headers), MAX_RESPONSE_BYTES)
        return read_completion(content) if len(content) < _SMALL else await asyncio.to_thread(read_completion, content)

    async def forward(self, body: Mapping[str, Any], send: Send) -> None:
        """Send a request to the wrapped app, and its response to `send`.

        Raises:
            ClientDisconnect: The client has gone.
        """
        if self.gone.is_set():
            raise ClientDisconnect
        content = json_bytes(body)
        scope, left = _stage_scope(self.scope, len(content)), asyncio.Event()
        receive = replay_body(content, partial(_disconnect, self.gone, left))
        work = asyncio.ensure_future(self.app(scope, receive, send))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            # vLLM ends a request when it sees the client disconnect; cancelled from outside, it would go on.
            if not self.gone.is_set():
                left.set()
                await asyncio.wait({work}, timeout=CLEANUP_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise
        if self.gone.is_set():
            raise ClientDisconnect

    def split(self, choice: Choice) -> tuple[str, str]:
        """Return the text of a choice, and the thought in front of it."""
        text, inside = self.thinking.split(choice.text, choice.finish_reason)
        return text, "\n".join(filter(None, (choice.thinking, inside)))

    def complete(
        self, text: str, thinking: str, reason: str | None, usage: Usage | None, *, started: float
    ) -> Completion:
        """Return the completion of a stage, and add up its tokens."""
        usage = (usage or Usage()).beside(thinking)
        self.tokens = self.tokens.plus(usage)
        return Completion(
            text,
            reason or "unknown",
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            time.perf_counter() - started,
            thinking=thinking,
            thinking_tokens=usage.reasoning_tokens,
        )

    def describe(self) -> dict[str, Any]:
        """Return nothing: no manifest records a server's engine."""
        return {}


async def _disconnect(*events: asyncio.Event) -> Message:
    """Report to the wrapped app that its client has disconnected, when one of some events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
    return {"type": "http.disconnect"}


def _budget(sampling: Sampling, given: Mapping[str, Any]) -> int:
    """Return the budget of thinking; under a client's own limit, which is of both, the reply keeps its room."""
    budget = sampling.thinking_budget or 0
    limits = (given.get(name) for name in ("max_completion_tokens", "max_tokens"))
    limit = next((each for each in limits if each is not None), None)
    return budget if limit is None else max(1, min(budget, limit - sampling.max_tokens))


def error_of(response: BufferedSend, sampling: Sampling) -> Exception:
    """Return the error for a response with another status than 200."""
    if response.status < 400:
        return MalformedResponseError(f"it has the status {response.status}")
    try:
        body = decompress(response.body, encoding_of(response.headers), MAX_ERROR_BYTES)
    except ResponseError:
        body = b""
    if is_too_long(response.status, body.decode("utf-8", "replace")):
        return PromptTooLongError(None, sampling.most_tokens, None)
    return UpstreamError(response.status, response.headers, _in_openai_form(response.status, body))


def encoding_of(headers: RawHeaders) -> str:
    """Return the value of Content-Encoding."""
    found = b", ".join(value for name, value in headers if name.lower() == b"content-encoding")
    return found.decode("latin-1")


def without_body_headers(headers: RawHeaders) -> RawHeaders:
    """Return a response's headers without those that describe its body."""
    return [(name, value) for name, value in headers if name.lower() not in _BODY_HEADERS]


def _stage_scope(scope: Scope, length: int) -> Scope:
    """Return the scope of a stage's request: the client's, with a JSON body of `length` bytes and no compression."""
    kept = [(name, value) for name, value in scope["headers"] if name not in _CLIENT_BODY_HEADERS]
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", str(length).encode()),
        (b"accept-encoding", b"identity"),
    ]
    # Routers write into the scope and its state.
    return {**scope, "headers": [*kept, *own], "state": dict(scope.get("state") or {})}


def _in_openai_form(status: int, body: bytes) -> bytes:
    """Return an error's body: unchanged if it is an object with an error, else one made of its message."""
    with suppress(JSONError):
        content = parse_json(body)
        if isinstance(content, dict) and isinstance(content.get("error"), dict):
            return body
    message = ServerError.parse(body, status).message
    return json_bytes({"error": {"message": message, "type": "server_error", "param": None, "code": status}})
