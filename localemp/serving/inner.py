"""The wrapped app as an engine: each stage of a strategy is one chat request to it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.openai.failures import is_too_long
from localemp.errors import EngineError, PromptTooLongError
from localemp.protocol.answers import LARGEST_ANSWER, Answer, Choice, Usage, first_choice, read_answer
from localemp.protocol.compression import decompress
from localemp.protocol.errors import LARGEST_ERROR, AnswerError, ServedError, UnreadableAnswerError
from localemp.sampling import Sampling
from localemp.serving.thoughts import Thoughts
from localemp.serving.usage import TokenSum
from localemp.utils.json_reader import JSONError, parse_json
from localemp.web.asgi import App, ClientGoneError, Headers, Scope, Send, Whole, call, json_bytes

# Every answer is framed anew.
_FRAMING = {b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"connection", b"date"}
_SMALL = 2**16  # bytes that are read in the event loop: less than handing them to a thread would take


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
        thoughts: Sets apart what the model thinks.
        tokens: Of all stages so far.
    """

    app: App
    scope: Scope
    model: str
    gone: asyncio.Event
    extra: Mapping[str, Any]
    thoughts: Thoughts
    tokens: TokenSum = field(default_factory=TokenSum)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One request, answered as a whole.

        Raises:
            AnswerError: The wrapped app failed with status 200, or gave no completion.
            ClientGoneError: Nobody waits for the answer any more.
            PromptTooLongError: The prompt does not fit the context.
            RefusedError: The wrapped app answered with another error.
        """
        started = time.perf_counter()
        answer = await self.ask(self.body(messages, sampling, {}), sampling)
        choice = first_choice(answer)
        text, thinking = self.said(choice)
        return self.finished(text, thinking, choice.finish_reason, answer.usage, started)

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

    async def ask(self, body: Mapping[str, Any], sampling: Sampling) -> Answer:
        """The answer to a request that is not streamed; raises as `chat` does."""
        whole = Whole(LARGEST_ANSWER)
        await self.forward(body, whole)
        if whole.status != 200:
            raise refusal(whole, sampling)
        if whole.cut:
            raise UnreadableAnswerError("it ended before it was whole, or is too large")
        content = decompress(whole.body, encoding_of(whole.headers), LARGEST_ANSWER)
        return read_answer(content) if len(content) < _SMALL else await asyncio.to_thread(read_answer, content)

    async def forward(self, body: Mapping[str, Any], send: Send) -> None:
        """Send a request to the wrapped app, and what it answers to `send`."""
        if self.gone.is_set():
            raise ClientGoneError
        await call(self.app, self.scope, json_bytes(body), self.gone, send)
        if self.gone.is_set():
            raise ClientGoneError

    def said(self, choice: Choice) -> tuple[str, str]:
        """What a choice of a whole answer says, and what was thought before."""
        text, inside = self.thoughts.whole(choice.text, choice.finish_reason)
        return text, "\n".join(filter(None, (choice.thinking, inside)))

    def finished(self, text: str, thinking: str, reason: str | None, usage: Usage | None, started: float) -> Completion:
        """What a stage keeps of an answer that has ended; its tokens are added up."""
        self.tokens = self.tokens.plus(usage)
        usage = usage or Usage()
        return Completion(
            text,
            reason or "unknown",
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            time.perf_counter() - started,
            thinking=thinking,
        )

    def describe(self) -> dict[str, Any]:
        """Nothing: no manifest records a server's engine."""
        return {}


def refusal(answer: Whole, sampling: Sampling) -> Exception:
    """The error for an answer with another status than 200."""
    if answer.status < 400:
        return UnreadableAnswerError(f"it has the status {answer.status}")
    try:
        body = decompress(answer.body, encoding_of(answer.headers), LARGEST_ERROR)
    except AnswerError:
        body = b""
    if is_too_long(answer.status, body.decode("utf-8", "replace")):
        return PromptTooLongError(None, sampling.max_tokens, None)
    return RefusedError(answer.status, answer.headers, _in_openais_form(answer.status, body))


def _in_openais_form(status: int, body: bytes) -> bytes:
    """The body of an error: as it came where it is an object with an error, else made of what it says."""
    with suppress(JSONError):
        content = parse_json(body)
        if isinstance(content, dict) and isinstance(content.get("error"), dict):
            return body
        body = json_bytes(content)
    said = ServedError.read(body.decode("utf-8", "replace"), status).message
    return json_bytes({"error": {"message": said, "type": "server_error", "param": None, "code": status}})


def encoding_of(headers: Headers) -> str:
    """The value of Content-Encoding."""
    found = b", ".join(value for name, value in headers if name.lower() == b"content-encoding")
    return found.decode("latin-1")


def unframed(headers: Headers) -> Headers:
    """The headers of an answer that say nothing of its body."""
    return [(name, value) for name, value in headers if name.lower() not in _FRAMING]
