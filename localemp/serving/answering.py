"""One request for a strategy: from the client's dialogue to the client's answer, whatever happens on the way."""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from localemp.errors import LocalempError, PromptTooLongError, StillThinkingError
from localemp.protocol.errors import AnswerError, ServedError
from localemp.serving import metrics
from localemp.serving.catalog import Menu
from localemp.serving.inner import Inner, RefusedError
from localemp.serving.last import Last
from localemp.serving.schema import ChatRequest, RequestError
from localemp.strategies.base import Response, Stage
from localemp.web.asgi import App, ClientGoneError, Receive, Scope, Send, disconnected, send_bytes, send_json

# What the wrapped app has to give a slot back when the client has gone.
_LEAVE_SECONDS = 1.0

log = logging.getLogger(__name__)


async def answer(app: App, menu: Menu, request: ChatRequest, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request; when the client goes away, whatever is done for it ends.

    Args:
        app: The wrapped app, which answers the stages.
        menu: Has the strategies.
        request: What is asked.
        scope: Of the client's request.
        receive: Tells when the client has gone; the body has been read.
        send: To the client.
    """
    gone = asyncio.Event()
    work = asyncio.create_task(_answer(app, menu, request, scope, gone, send))
    watch = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # vLLM ends a request when it is told that nobody listens; cancelled from outside, it would go on.
            gone.set()
            await asyncio.wait({work}, timeout=_LEAVE_SECONDS)
    finally:
        gone.set()
        work.cancel()
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def _answer(app: App, menu: Menu, request: ChatRequest, scope: Scope, gone: asyncio.Event, send: Send) -> None:
    name, started = "+".join(request.strategy), time.perf_counter()
    inner = Inner(app, scope, menu.model, gone, menu.extra, menu.thoughts)
    last = Last(inner, request, f"{menu.model}:{name}", send, menu.keep_thinking)
    try:
        strategy = await menu.strategy(request.strategy, request.options)
        metrics.REQUESTS.labels(name).inc()
        draft = await metrics.watched(strategy, strategy.draft(request.dialogue))
        lookup = time.perf_counter() - started
        response = await strategy.respond(replace(draft, instruction=request.instruction), inner, last)
        metrics.count_answer(name, response, lookup)
        variant = strategy.prompts.template.name
        await last.end(
            _trace(name, variant, response, lookup, time.perf_counter() - started) if request.options.trace else None
        )
    except (ClientGoneError, asyncio.CancelledError):
        metrics.GONE.labels(name).inc()
    except RefusedError as error:
        metrics.ERRORS.labels(name, error.status).inc()
        await send_bytes(send, error.status, error.body, b"application/json", error.headers)
    except Exception as error:
        known = _as_request_error(error)
        metrics.ERRORS.labels(name, known.status).inc()
        if last.begun:
            await last.fail(known.content)
        else:
            await send_error(send, known)


async def send_error(send: Send, error: RequestError) -> None:
    """Answer with an error in OpenAI's form."""
    await send_json(send, error.status, error.content, error.headers)


def _as_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, PromptTooLongError):
        said = "the dialogue, with what the strategy adds to it, is longer than the model's maximum context length"
        return RequestError(said, "messages", "context_length_exceeded")
    if isinstance(error, StillThinkingError):
        return RequestError(f"{error.message}; give it more", "max_tokens", "still_thinking")
    if isinstance(error, ServedError):
        log.warning("the model's server failed inside an answer: %s (%d)", error.message, error.status)
        return RequestError(error.message, code=error.code or None, status=error.status, kind="server_error")
    if isinstance(error, AnswerError):
        log.warning("the model's server gave an answer that is no completion: %s", error.message)
        said = "the model's server gave an answer that is no completion, or only half of one"
        return RequestError(said, code="upstream_unreadable", status=502, kind="server_error")
    if isinstance(error, LocalempError):
        said = f"{error.message}; {error.hint}" if error.hint else error.message
        log.error("a request for a strategy failed: %s", said)
        return RequestError(said, status=500, kind="server_error")
    log.error("a request for a strategy failed", exc_info=error)
    return RequestError("something went wrong in this server; its log says what", status=500, kind="server_error")


def _trace(name: str, variant: str, response: Response, lookup: float, whole: float) -> dict[str, Any]:
    """What happened inside, for those who ask for it."""
    seconds = {stage.name: stage.completion.seconds for stage in response.stages}
    return {
        "strategy": name,
        "variant": variant,
        "stages": [_stage(stage) for stage in response.stages],
        "exemplars": [
            {"id": shown.dialogue.id, "turns": list(shown.dialogue.complete_turns), "score": shown.score}
            for shown in response.exemplars
        ],
        "inferences": None if response.inferences is None else dict(response.inferences),
        "inferences_dropped": {name: _all(some) for name, some in response.dropped.items()},
        "seconds": {part: round(value, 4) for part, value in ({"lookup": lookup} | seconds | {"all": whole}).items()},
    }


def _stage(stage: Stage) -> dict[str, Any]:
    completion = stage.completion
    return {
        "name": stage.name,
        "messages": _all(stage.messages),
        "text": completion.text,
        "thinking": completion.thinking,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": round(completion.seconds, 4),
        "exemplars_dropped": stage.dropped,
    }


def _all(some: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(one) for one in some]
