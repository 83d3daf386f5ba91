"""Single replies from a running `localemp serve`: what `Responder` does, by a request for a strategy."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel, FiniteFloat

from localemp.commonsense.selection import Dropped
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion
from localemp.errors import EngineError, OptionError
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.responder import as_dialogue
from localemp.protocol.errors import MAX_ERROR_BYTES, ResponseError, ServerError
from localemp.protocol.streams import StreamReader
from localemp.serving.matching import flow_of, model_at, options_for, why_not
from localemp.serving.running import RunningServer
from localemp.serving.settings import CHAT
from localemp.strategies.base import Draft, Exemplar, OnStage, Response, Stage
from localemp.utils.plain_errors import in_words
from localemp.utils.text import one_line

_TIMEOUT = httpx.Timeout(600.0, connect=10.0)  # a stage before the reply sends nothing while it is written


class _TracedMessage(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class _TracedStage(BaseModel):
    name: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None
    seconds: FiniteFloat
    notes: list[str]
    thinking: str
    thinking_tokens: int | None
    messages: list[_TracedMessage]
    exemplars_dropped: int
    answer: str | dict[str, Any] | None
    sampling: dict[str, Any] = {}


class _TracedExemplar(BaseModel):
    id: str
    turns: list[str]
    score: FiniteFloat | None


class _TracedDrop(BaseModel):
    text: str
    reason: str
    value: FiniteFloat | None = None


class _Trace(BaseModel):
    """A server's trace (`handler/trace.py`), which may come from any program at the address."""

    stages: list[_TracedStage]
    exemplars: list[_TracedExemplar]
    inferences: dict[str, list[str]] | None = None
    inferences_dropped: dict[str, list[_TracedDrop]]
    skipped: list[str] = []


class ServedResponder:
    """Answers single dialogues through a server of this machine. Use it in an `async with` block.

    Args:
        server: The server, which must match (`matching.why_not`).
        pipeline: What is asked for.
        key: The server's API key; empty for none.

    Attributes:
        pipeline: What is asked for.
        server: The server.
    """

    def __init__(self, server: RunningServer, pipeline: Pipeline, key: str = "") -> None:
        self.pipeline, self.server = pipeline, server
        # Uncompressed, so that what is read is no more than what was sent.
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if key else {})
        self._client = httpx.AsyncClient(base_url=server.url, headers=headers, timeout=_TIMEOUT, **server.http_options)

    async def start(self) -> None:
        """Do nothing: the server runs."""

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def use(self, strategy: str) -> None:
        """Answer by another strategy from now on.

        Raises:
            LocalempError: There is no such strategy.
            OptionError: The server would not answer by it as this machine would.
        """
        other = self.pipeline.vary(strategy)
        other.check_options()
        if why := why_not(self.server, other):
            raise OptionError(
                f"the server at {self.server.url} cannot do that: {why}", "start again with --server none"
            )
        self.pipeline = other

    async def __call__(
        self,
        said: str | Sequence[str] | Dialogue,
        *,
        on_text: Callable[[str], object] | None = None,
        on_draft: Callable[[Draft], object] | None = None,
        on_stage: OnStage | None = None,
    ) -> Response:
        """Return the response to a dialogue; see `Responder`. Draft and stages are known when the reply is complete.

        Raises:
            OptionError: A turn is empty, or the listener spoke last.
            EngineError: The request failed.
        """
        dialogue, started = as_dialogue(said), time.perf_counter()
        flow = flow_of(self.pipeline)
        flow.check(dialogue)
        facts = {"emotion": dialogue.emotion, "situation": dialogue.situation}
        body = {
            "model": model_at(self.server, self.pipeline.config),
            "messages": [
                {"role": "assistant" if number % 2 else "user", "content": turn}
                for number, turn in enumerate(dialogue.turns)
            ],
            "stream": True,
            "localemp": options_for(self.pipeline.config, flow, facts),
        }
        pieces: list[str] = []
        trace: Mapping[str, Any] | None = None
        async for fields, text in self._ask(body):
            trace = fields.get("localemp", trace)
            if text:
                pieces.append(text)
                if on_text is not None:
                    on_text(text)
        response = _response(dialogue, "".join(pieces), trace or {}, time.perf_counter() - started)
        if on_draft is not None:
            on_draft(Draft(dialogue, response.exemplars, response.inferences, response.dropped))
        if on_stage is not None:
            for stage in response.stages:
                on_stage(stage)
        return response

    async def _ask(self, body: Mapping[str, Any]) -> AsyncIterator[tuple[Mapping[str, Any], str]]:
        """Yield the chunks of a streamed reply: all fields of each, and its piece of the reply."""
        url = self.server.url
        try:
            async with self._client.stream("POST", CHAT, json=body) as answer:
                if answer.status_code != 200:
                    raise ServerError.parse(await _read(answer), answer.status_code)
                reader = StreamReader()
                async for part in answer.aiter_raw():
                    for chunk in reader.feed(part):
                        yield chunk.fields, chunk.choices[0].text if chunk.choices else ""
                for chunk in reader.end():
                    yield chunk.fields, chunk.choices[0].text if chunk.choices else ""
        except ServerError as error:
            hint = "set LOCALEMP_API_KEY to its key" if error.status == 401 else ""
            raise EngineError(f"the server at {url}: {error.message}", hint) from error
        except ResponseError as error:
            raise EngineError(f"the server at {url} sent no reply: {error.message}") from error
        except httpx.HTTPError as error:
            hint = "see whether `localemp serve` still runs"
            raise EngineError(f"the server at {url} does not answer: {one_line(in_words(error))}", hint) from error


async def _read(answer: httpx.Response) -> bytes:
    """Return the beginning of an error's body."""
    content = b""
    async for part in answer.aiter_raw():
        content += part
        if len(content) > MAX_ERROR_BYTES:
            break
    return content[:MAX_ERROR_BYTES]


def _response(dialogue: Dialogue, reply: str, trace: Mapping[str, Any], seconds: float) -> Response:
    """Return the response that a server's trace describes.

    Raises:
        EngineError: The server sent no trace, or one of another form.
    """
    try:
        trace = _Trace.model_validate(trace).model_dump()
        stages = tuple(map(_stage, trace["stages"]))
        exemplars = tuple(
            Exemplar(_shown(shown["id"], tuple(shown["turns"])), shown["score"]) for shown in trace["exemplars"]
        )
        dropped = {name: tuple(Dropped(**one) for one in each) for name, each in trace["inferences_dropped"].items()}
        raw = stages[-1].completion.text
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EngineError("the server's trace is missing, or of another form", "is it another localemp?") from error
    found = exemplars, trace.get("inferences"), dropped
    return Response(dialogue, reply, raw, stages, *found, skipped=tuple(trace.get("skipped", ())))


def _shown(name: str, turns: tuple[str, ...]) -> Dialogue:
    """Return an exemplar's dialogue from its complete turns, the listener's last."""
    even = len(turns) % 2 == 0
    return Dialogue(name, turns[:-1] if even else turns, reference=turns[-1] if even else None)


def _stage(told: Mapping[str, Any]) -> Stage:
    completion = Completion(
        told["text"],
        told["finish_reason"],
        told["prompt_tokens"],
        told["completion_tokens"],
        told.get("cached_tokens"),
        told["seconds"],
        notes=tuple(told["notes"]),
        thinking=told["thinking"],
        thinking_tokens=told["thinking_tokens"],
    )
    messages = tuple(Message(each["role"], each["content"]) for each in told["messages"])
    return Stage(
        told["name"], messages, completion, told["exemplars_dropped"], told["answer"], told.get("sampling", {})
    )
