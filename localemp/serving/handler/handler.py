"""Handles requests for strategies, from the client's dialogue to the client's response, whatever fails on the way.

The bare model is asked here, too, if it is to have the strategies' sampling parameters.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from localemp.errors import LocalempError, PromptTooLongError, RefusalError, StillThinkingError
from localemp.protocol.errors import ResponseError, ServerError
from localemp.protocol.refusals import FILTERED
from localemp.serving import metrics
from localemp.serving.catalog import Catalog
from localemp.serving.errors import RequestError
from localemp.serving.handler.app_engine import CLEANUP_SECONDS, AppEngine, UpstreamError
from localemp.serving.handler.reply_engine import ReplyEngine
from localemp.serving.handler.thinking import ModelThinking
from localemp.serving.handler.trace import trace_of
from localemp.serving.schema import ChatRequest
from localemp.strategies.answers import StageError
from localemp.web.asgi import wait_for_disconnect

log = logging.getLogger(__name__)


class Handler:
    """Handles requests for strategies.

    Args:
        app: The wrapped app, which answers the stages.
        catalog: The strategies.
    """

    def __init__(self, app: ASGIApp, catalog: Catalog) -> None:
        self.app, self.catalog = app, catalog
        self._changed: dict[str, str | None] = {}
        # An adapter may have taught the model to think, or not to.
        self._thinking = {adapter: ModelThinking() for adapter in ("", *catalog.names.adapters)}

    async def __call__(self, request: ChatRequest, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; when the client disconnects, all work for it ends.

        Args:
            request: The checked request.
            scope: The scope of the client's request.
            receive: Reports when the client disconnects; the body has been read.
            send: Sends to the client.
        """
        gone = asyncio.Event()
        work = asyncio.create_task(self._answer(request, scope, receive, gone, send))
        watch = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                # vLLM ends a request when it sees the client disconnect; cancelled from outside, it would go on.
                gone.set()
                await asyncio.wait({work}, timeout=CLEANUP_SECONDS)
        finally:
            gone.set()
            work.cancel()
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _answer(
        self, request: ChatRequest, scope: Scope, receive: Receive, gone: asyncio.Event, send: Send
    ) -> None:
        catalog, started = self.catalog, time.perf_counter()
        names, adapter, name = catalog.names, request.adapter, "+".join(request.strategy)
        label = name or "none"
        engine = AppEngine(
            self.app,
            scope,
            names.of(adapter),
            gone,
            extra=catalog.extra,
            thinking=self._thinking[adapter],
            changed=self._changed,
            is_vllm=catalog.is_vllm,
        )
        reply = ReplyEngine(
            engine,
            request,
            send,
            model=names.of(adapter, name),
            keep_thinking=catalog.keep_thinking,
            trims=catalog.trims,
        )
        try:
            if not name:
                await reply.chat(request.messages, catalog.sampling)
                await reply.finish(None, None)
                return
            strategy = await catalog.strategy(request.strategy, request.options)
            if strategy.flow.chooses_reply and (request.rest.get("n") or 1) > 1:
                message = f"'n' must be 1: the strategy {name} makes several replies itself, and chooses one"
                raise RequestError(message, "n", "unsupported_value")
            metrics.REQUESTS.labels(name, adapter).inc()
            draft = await metrics.count_waiting(strategy, strategy.draft(request.dialogue))
            lookup = time.perf_counter() - started
            response = await strategy.respond(replace(draft, instruction=request.instruction), engine, reply)
            metrics.count_response(name, adapter, response, lookup)
            trace = None
            if request.options.trace:
                variant, total = strategy.prompts.template.name, time.perf_counter() - started
                trace = trace_of(name, adapter, variant, response, lookup, total)
            await reply.finish(response, trace)
        except (ClientDisconnect, asyncio.CancelledError):
            metrics.GONE.labels(label, adapter).inc()
        except UpstreamError as error:
            metrics.ERRORS.labels(label, adapter, error.status).inc()
            await error.response()(scope, receive, send)
        except Exception as error:
            known = _as_request_error(error)
            metrics.ERRORS.labels(label, adapter, known.status).inc()
            if reply.started:
                await reply.fail(known.content)
            else:
                await known.response()(scope, receive, send)


def _as_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, PromptTooLongError):
        message = "the dialogue, with what the strategy adds to it, is longer than the model's maximum context length"
        return RequestError(message, "messages", "context_length_exceeded")
    if isinstance(error, StillThinkingError):
        if error.by_itself:  # no other request would have been right
            return RequestError(error.message, code="still_thinking", status=502, kind="server_error")
        return RequestError(f"{error.message}; raise it", "max_tokens", "still_thinking")
    if isinstance(error, RefusalError):  # asked again, it is refused again
        return RequestError(f"in a stage before the reply, {error.message}", "messages", FILTERED)
    if isinstance(error, StageError):  # what the model said
        return RequestError(error.message, code="unreadable_answer", status=502, kind="server_error")
    if isinstance(error, ServerError):
        log.warning("the model's server reported an error in its response: %s (%d)", error.message, error.status)
        return RequestError(error.message, code=error.code or None, status=error.status, kind="server_error")
    if isinstance(error, ResponseError):
        log.warning("the model's server sent a response that is not a completion: %s", error.message)
        message = "the model's server sent a response that is not a completion, or is incomplete"
        return RequestError(message, code="upstream_unreadable", status=502, kind="server_error")
    if isinstance(error, LocalempError):
        log.error("a request for a strategy failed: %s", error.with_hint)
        return RequestError(error.with_hint, status=500, kind="server_error")
    log.error("a request for a strategy failed", exc_info=error)
    return RequestError("internal server error; the server's log has details", status=500, kind="server_error")
