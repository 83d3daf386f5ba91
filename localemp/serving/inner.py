"""The wrapped app as an engine: answers a strategy's stages by requests that never leave the process."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, Sampling
from localemp.engines.openai.failures import is_too_long
from localemp.errors import EngineError, PromptTooLongError
from localemp.serving.asgi import App, ClientGoneError, Headers, Scope, Send, Whole, call
from localemp.serving.requests import RequestError

# Every answer is framed anew.
_FRAMING = {b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"connection", b"date"}


class RefusedError(EngineError):
    """The wrapped app answered with an error, which goes to the client as it is."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"the model's server answered with status {status}")
        self.status, self.body = status, body
        self.headers = unframed(headers)


@dataclass(slots=True)
class Inner(Engine):
    """Answers single stages.

    Attributes:
        app: Answers `/v1/chat/completions`.
        scope: Of the client's request; its headers go along.
        model: The model that the strategy is for.
        gone: Is set when the client has gone.
        extra: Further keys of every body, from the model's profile.
        usage: Tokens of all stages so far, as OpenAI's API names them.
    """

    app: App
    scope: Scope
    model: str
    gone: asyncio.Event
    extra: Mapping[str, Any]
    usage: dict[str, int] = field(default_factory=dict)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One request, answered as a whole.

        Raises:
            ClientGoneError: Nobody waits for the answer any more.
            PromptTooLongError: The prompt does not fit the context.
            RefusedError: The wrapped app answered with another error, or with something else altogether.
        """
        started = time.perf_counter()
        answer = await self.ask(self.body(messages, sampling, {}), sampling)
        return self.completion(answer, started)

    def body(self, messages: Sequence[Message], sampling: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
        """A request's body; what is `given` by the client wins over the strategy's sampling."""
        own: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if given.get("max_completion_tokens") is None:
            own["max_tokens"] = sampling.max_tokens
        if sampling.seed is not None:
            own["seed"] = sampling.seed
        stop = given.get("stop") or []
        stops = [*([stop] if isinstance(stop, str) else stop), *sampling.stop]
        chosen = {key: value for key, value in given.items() if value is not None and key != "stop"}
        named = {"model": self.model, "messages": [asdict(message) for message in messages]}
        return own | dict(self.extra) | chosen | ({"stop": stops} if stops else {}) | named

    async def ask(self, body: Mapping[str, Any], sampling: Sampling) -> dict[str, Any]:
        """The answer to a request that is not streamed; raises as `chat` does."""
        whole = Whole()
        await self.forward(body, whole)
        if whole.status != 200:
            raise refusal(whole, sampling)
        try:
            answer: dict[str, Any] = json.loads(whole.body)
            answer["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise unreadable() from error
        return answer

    async def forward(self, body: Mapping[str, Any], send: Send) -> None:
        """Send a request to the wrapped app, and what it answers to `send`."""
        if self.gone.is_set():
            raise ClientGoneError
        await call(self.app, self.scope, json.dumps(body).encode(), self.gone, send)
        if self.gone.is_set():
            raise ClientGoneError

    def completion(self, answer: Mapping[str, Any], started: float) -> Completion:
        """A whole answer as a stage keeps it; its tokens are added up."""
        choice = answer["choices"][0]
        text = choice["message"]["content"] or ""
        return self.finished(text, choice.get("finish_reason"), answer.get("usage"), started)

    def finished(self, text: str, reason: Any, usage: Mapping[str, Any] | None, started: float) -> Completion:
        """What a stage keeps of an answer that has ended."""
        usage = usage or {}
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            self.usage[name] = self.usage.get(name, 0) + (usage.get(name) or 0)
        return Completion(
            text,
            str(reason or "unknown"),
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            time.perf_counter() - started,
        )

    def describe(self) -> dict[str, Any]:
        """Nothing: no manifest records a server's engine."""
        return {}


def refusal(answer: Whole, sampling: Sampling) -> EngineError:
    """The error for an answer with such a status."""
    if is_too_long(answer.status, answer.body.decode("utf-8", "replace")):
        return PromptTooLongError(None, sampling.max_tokens, None)
    return RefusedError(answer.status, answer.headers, answer.body)


def unreadable() -> RequestError:
    """The error for an answer that is no completion."""
    return RequestError("the model's server gave an answer that is no completion", status=502, kind="server_error")


def unframed(headers: Headers) -> Headers:
    """The headers of an answer that say nothing of its body."""
    return [(name, value) for name, value in headers if name.lower() not in _FRAMING]
