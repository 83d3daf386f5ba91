"""Engine for any server with the OpenAI API, hosted or self-hosted.

Retries are decided here instead of in the `openai` package, so that a run can report them and a test can count them.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import openai

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.openai.answers import AnswerReader, Answers, read_answers
from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import (
    NoResponseError,
    WebPageError,
    explain,
    is_loading,
    is_retryable,
    is_wrong_key,
    may_be_billed,
    refused_parameter,
    too_long,
)
from localemp.engines.openai.models import Models, read_models
from localemp.engines.openai.ollama import loaded_context
from localemp.engines.openai.pace import MOST_IN_FLIGHT, Lane, Pace, shared_pace
from localemp.engines.openai.rate_limits import cost_of
from localemp.engines.openai.requests import NOT_TAKEN, Requests
from localemp.engines.openai.servers import OPENAI, OTHER, Server, may_be_cut, server_of
from localemp.engines.openai.target import Target
from localemp.engines.spending import attempt
from localemp.errors import EngineError, FatalEngineError, OptionError, UnknownNameError
from localemp.models.price import Price
from localemp.protocol.errors import ResponseError, ServerError
from localemp.sampling import Sampling
from localemp.utils.redaction import redact_settings
from localemp.utils.text import one_line

INITIAL_BACKOFF = 0.5
"""Seconds before the first retry if the server names no time; doubled for each further retry."""
MAX_BACKOFF = 60.0
"""Longest wait before a retry if the server names no time, in seconds."""
MAX_BACKOFF_ALONE = 8.0
"""The same for a request that fails while others are answered, so that the server is not overloaded."""
MAX_RETRY_AFTER = 600.0
"""Longest wait that a server may ask for, in seconds; if a rate limit asks for more, the run stops."""
MAX_FAILED_REQUESTS = 20
"""Failed requests (after all retries) until a server that has never answered is given up."""

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
"""What each of the two APIs is asked at, after the base URL."""

_log = logging.getLogger(__name__)
_TOLD = ("temperature", "top_p", "seed", "stop")  # of what is dropped: what changes how replies are drawn
_NO_LIST = (404, 405, 501)
_LOADING_WAIT = 2.0  # seconds between looks at a server that loads its model


class OpenAIEngine(Engine):
    """Sends requests to a server over HTTP, at the pace that its limits allow; see `pace.py`.

    Retried are the statuses 408, 409, 429 and 5xx, the same errors inside a response, malformed responses, lost
    connections and timeouts. The wait is what the server asks for (Retry-After, plus up to a quarter), else 0.5, 1, 2,
    ... 60 s, shortened by up to half at random. A waiting request keeps its place, so that fewer are in flight while
    the server is overloaded; at a rate limit all wait. Once it is known how long answers take, one that takes several
    times longer is given up and asked for again, which a service may charge for twice.

    A request that fails after all retries fails alone, unless no further request can succeed: a wrong key, no quota, no
    server. A web page, 403, 404 or a malformed response is fatal only until the server has answered correctly once. A
    server whose first `MAX_FAILED_REQUESTS` requests all fail is given up.

    A parameter that the model refuses is replaced or dropped for all later calls (see `Requests`) and reported in
    `Completion.notes` of every call it affects.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        named: bool = True,
        api: Literal["chat", "completions"] = "chat",
        concurrency: int | None = None,
        context_length: int | None = None,
        price: Price | None = None,
        extra_body: Mapping[str, Any] | None = None,
        notice: str = "",
        of_openai: bool = False,
        max_retries: int = 10,
        timeout: float = 600.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: random.Random | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Create an engine; no request is sent before `start` or `chat`.

        Args:
            model: Name of the model on the server.
            base_url: URL of the server, with "/v1"; by default $OPENAI_BASE_URL, else OpenAI's server.
            api_key: By default the environment's for this server, see `servers.key_for`.
            named: Whether the user gave the URL, rather than a model's profile.
            api: "chat" sends messages; "completions" sends their contents as one text, separated by blank lines.
            concurrency: Most requests in flight; further calls wait. None for as many as the server's limits allow.
            context_length: Length of the model's context in tokens, if known; vLLM's server reports it.
            price: Price of the model; None if unknown, then no cost is computed.
            extra_body: Further fields of the request; they override those of the sampling.
            notice: What is known of the model's end, for the error if the server does not have it; usually empty.
            of_openai: Whether the model is one of OpenAI's: what it refuses is known then, also behind a proxy.
            max_retries: Most retries of a request; those after a rate limit do not count while others are answered.
            timeout: Timeout of one attempt, in seconds.
            sleep: Waits between attempts.
            jitter: Random source for the waits.
            pace: When requests are sent; by default that of all engines of the same server, model and key.

        Raises:
            OptionError: The URL or the key is invalid, or a number is out of range.
            UnknownNameError: `api` is neither of the two.
        """
        if api not in PATHS:
            raise UnknownNameError("api", api, PATHS)
        if (concurrency is not None and concurrency < 1) or max_retries < 0 or timeout <= 0:
            raise OptionError(
                f"concurrency {concurrency}, max_retries {max_retries}, timeout {timeout}: out of range",
                "concurrency must be at least 1, max_retries at least 0, timeout over 0",
            )
        self._target = Target.resolve(model, base_url, api_key, named=named, notice=notice)
        self.model, self.api, self.price = model, api, price
        self.concurrency, self.context_length = concurrency or MOST_IN_FLIGHT, context_length
        self.base_url = self._target.url
        server, self._of_openai = self._target.server, of_openai
        self._requests = Requests(model, api, extra_body or {}, self._refuser)
        tier = self._requests.extra.get("service_tier")
        self._may_be_slow = tier == "flex"
        self._reader = AnswerReader(self.base_url, api, price, tier if isinstance(tier, str) else None, server.charges)
        self._max_retries, self._timeout = max_retries, timeout
        self._sleep, self._jitter = sleep, jitter or random.Random()
        self._most, self._pace = concurrency, pace
        self._lane: Lane | None = None
        self._connection = Connection(self._target, timeout)
        # What is known of the server: it has the API, it has answered, it is a web site.
        self._known = self._answered = self._web_site = False
        self._failed = 0  # requests before the first answer

    @property
    def _refuser(self) -> Server:
        """The server whose refusals are to be expected: OpenAI's if an unknown one passes requests on to it."""
        return OPENAI if self._of_openai and self._target.server is OTHER else self._target.server

    def check(self) -> None:
        """Check that there is a key where the server is known to need one.

        Raises:
            FatalEngineError: There is none.
        """
        self._target.check_key()

    async def start(self) -> None:
        """Fetch the server's list of models, which also checks the connection and the key.

        The list is not relied on: anything unusual about it is logged as a warning.

        Raises:
            FatalEngineError: No key where one is needed, no server, a wrong key, or a complete list without the model.
        """
        self.check()
        if self._target.server.lists == "nothing":
            return
        try:
            models = await self._models()
        except ResponseError as error:
            self._without_list(error)
            return
        self._known = True
        name = models.listed_as(self.model)
        if self._target.server is OTHER:
            self._target = replace(self._target, server=server_of(models.owners.get(name, "")))
        server, self._requests.server = self._target.server, self._refuser
        listed = models.has(self.model) if server.lists_models else True
        if listed is False and not self._target.is_openai:
            raise FatalEngineError(f"{self.base_url} has no model {self.model!r}", f"its models: {models}")
        if not listed:
            _log.warning("%s does not list the model %r; continuing anyway", self.base_url, self.model)
        # A server may have been started with less than the model can do.
        lengths = [length for length in (self.context_length, models.lengths.get(name)) if length]
        self.context_length = min(lengths, default=None)
        if server.cuts_prompts:
            # What the server was started with counts, whatever the model can do.
            self.context_length = await loaded_context(self._connection, self._target.base, self.model)

    async def _models(self) -> Models:
        """Fetch the list of models; a server that loads its model is waited for, as long as for an answer."""
        waited = 0.0
        while True:
            try:
                return await self._connection.get("/models", read_models)
            except ResponseError as error:
                if waited >= self._timeout or not is_loading(error):
                    raise
            await self._sleep(_LOADING_WAIT)
            waited += _LOADING_WAIT

    def _without_list(self, error: ResponseError) -> None:
        """Continue if only the list of models is missing."""
        wrong = self._explained(error, 0)
        unreachable = isinstance(error, NoResponseError) and error.why == "unreachable"
        if unreachable or is_wrong_key(error):
            raise FatalEngineError(wrong.message, wrong.hint) from error
        self._web_site = isinstance(error, WebPageError)
        # Not every server lists its models, and not every key may read the list.
        status = error.status if isinstance(error, ServerError) else 0
        if status not in _NO_LIST and not (status == 403 and "model.read" in error.message):
            _log.warning("no list of models: %s; continuing anyway", wrong.message)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`.

        `Completion.seconds` counts from the first attempt, including waits between attempts.
        An answer without text is an `EngineError`, unless the model's own answer is empty.
        """
        begun = time.perf_counter()
        asked = await self._ask(messages, sampling)
        return self._completions(asked, messages, sampling, begun)[0]

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages; see `Engine.candidates`.

        They are one request, whose prompt is billed once, unless the server gives one answer a request. Its counts and
        its cost are the first answer's; the others have 0.
        """
        found: list[Completion] = []
        if self._requests.takes_number:
            begun = time.perf_counter()
            asked = await self._ask(messages, sampling, number)
            found = self._completions(asked, messages, sampling, begun)[:number]
            if asked[0].number == 1:
                self._requests.changed["n"] = None  # ignored, not refused
        if missing := number - len(found):
            seed = None if sampling.seed is None else sampling.seed + len(found)
            found += await super().candidates(messages, replace(sampling, seed=seed), missing)
        return found

    def _completions(
        self, asked: tuple[Answers, tuple[str, ...]], messages: Sequence[Message], sampling: Sampling, begun: float
    ) -> list[Completion]:
        answers, notes = asked
        server, limit, prompt = self._target.server, self.context_length, answers.usage.prompt_tokens
        if server.cuts_prompts and limit and prompt and may_be_cut(prompt, limit, messages):
            raise too_long(server, None, sampling.most_tokens, limit)
        found = self._reader.completions(
            answers,
            messages,
            sampling,
            context_length=self.context_length,
            seconds=time.perf_counter() - begun - answers.waited if answers.seconds is None else answers.seconds,
            notes=notes,
        )
        for each in found:
            if sampling.choice and each.finish_reason == "stop" and each.text.strip() not in sampling.choice:
                said = one_line(each.text, 60)
                raise EngineError(
                    f"{self.base_url} answered {said!r}, none of the texts in choice: it ignores structured_outputs",
                    "ask a server of vLLM's, or omit choice",
                )
        return found

    def describe(self) -> dict[str, Any]:
        """Return everything that affects replies, for the manifest; never the key."""
        return {
            "engine": self.name,
            "openai": openai.__version__,
            "base_url": self.base_url,
            "api": self.api,
            "model": self.model,
            "context_length": self.context_length,
            "price": self.price.describe() if self.price else None,
            "extra_body": redact_settings(self._requests.extra),
            "changed_parameters": dict(sorted(self._requests.changed.items())),
        }

    def status(self) -> str:
        """Return what limits the pace; see `Engine.status`."""
        return "" if self._lane is None else self._lane.pace.status()

    async def close(self) -> None:
        """Close the connections; the engine cannot be started again."""
        if self._lane is not None:
            self._lane.close()
        await self._connection.close()

    async def _ask(
        self, messages: Sequence[Message], sampling: Sampling, number: int = 1
    ) -> tuple[Answers, tuple[str, ...]]:
        """Return the answers to a request, and notes on changed parameters."""
        body: Mapping[str, Any] = {}
        notes: tuple[str, ...] = ()

        def build() -> Mapping[str, Any]:
            nonlocal body, notes
            body, notes = self._requests.body(messages, sampling, number)
            return body

        while True:  # each iteration has one parameter less that can be refused
            try:
                answers = await self._send(build)
            except ResponseError as error:
                refused, known = refused_parameter(error), set(self._requests.changed)
                if not self._requests.change(refused, body):
                    raise self._failure(error, sampling.most_tokens) from error
                for name in sorted({*self._requests.changed} - known):
                    if self._requests.changed[name] is None and name in _TOLD:
                        _log.warning("%s refuses %s, so replies are made without it", self.model, name)
            else:
                self._known = self._answered = True
                return answers, notes

    def _failure(self, error: ResponseError, reply_tokens: int) -> EngineError:
        """Return the error to raise for a failed request."""
        self._failed += error.is_transient
        found = self._explained(error, reply_tokens)
        if type(found) is EngineError and (name := self._requests.refused_extra(error)):
            return FatalEngineError(
                f"{self.base_url} refuses the {name} of {self.model!r}: {error.message}",
                f"give another --{name.replace('_', '-')}, or none; or change it in [request] of the model's profile",
            )
        if type(found) is EngineError and (name := self._requests.refused_sampling(error)):
            return FatalEngineError(f"{self.base_url} refuses {name}: {error.message}", NOT_TAKEN)
        if self._answered or self._failed < MAX_FAILED_REQUESTS or isinstance(found, FatalEngineError):
            return found
        return FatalEngineError(
            f"all of the first {self._failed} requests failed: {found.message}",
            found.hint or "check the server and its log",
        )

    def _explained(self, error: ResponseError, reply_tokens: int) -> EngineError:
        return explain(
            error, self._target, reply_tokens, self.context_length, known=self._known, answered=self._answered
        )

    async def _send(self, build: Callable[[], Mapping[str, Any]]) -> Answers:
        """Send a request until it succeeds or no retry is left; raises the last error.

        Args:
            build: Returns the body, when it is sent: others may find out meanwhile what the model refuses.
        """
        self._lane = self._lane or Lane(self._pace or shared_pace(self._target), self._most)
        tries, failures, begun = 0, 0, time.perf_counter()
        async with self._lane.request(cost_of(build())) as sending:
            waited = 0.0
            while True:
                await sending.attempt()
                waited, body = waited or time.perf_counter() - begun, build()
                try:
                    with attempt(may_be_billed):
                        answers = await self._connection.post(
                            PATHS[self.api],
                            body,
                            read_answers,
                            seconds=None if self._may_be_slow else lambda: sending.patience(self._timeout),
                            on_headers=sending.answered,
                        )
                    return replace(answers, waited=waited)
                except ResponseError as error:
                    # If the list of models was a web page, too, the address is wrong; a retry does not help.
                    elsewhere = self._web_site and not self._known and isinstance(error, WebPageError)
                    limited = isinstance(error, ServerError) and error.status == 429
                    late = isinstance(error, NoResponseError) and error.why == "late"
                    failures += not (limited and sending.others_answered)
                    if failures > self._max_retries or elsewhere or not is_retryable(error, body):
                        sending.failed(error.headers, late=late)
                        raise
                    wait, reason = self._wait(error, tries, alone=sending.others_answered), error.message
                    rest: AbstractAsyncContextManager[None] = nullcontext()
                    if limited:
                        rest = sending.refused(error.headers, wait, named=error.retry_after is not None)
                    else:
                        sending.failed(error.headers, late=late)
                tries += 1
                _log.debug("%s: %s; retry %d in %.1f s", self.base_url, reason, tries, wait)
                async with rest:
                    await self._sleep(wait)

    def _wait(self, error: ResponseError, tries: int, *, alone: bool) -> float:
        asked = error.retry_after
        if asked is not None and asked <= MAX_RETRY_AFTER:
            return asked * self._jitter.uniform(1.0, 1.25)
        # A rate limit applies to all requests; a maintenance page of a working server is not one.
        limited = isinstance(error, ServerError) and error.status == 429
        if asked is not None and (limited or not self._answered):
            raise FatalEngineError(
                f"{self.base_url} asks to wait {asked:.0f} seconds: {error.message}",
                "run the same command again after that time",
            ) from error
        most = MAX_BACKOFF_ALONE if alone else MAX_BACKOFF
        return float(min(INITIAL_BACKOFF * 2.0**tries, most) * self._jitter.uniform(0.5, 1.0))
