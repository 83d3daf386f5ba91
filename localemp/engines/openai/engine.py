"""Engine for any server with the OpenAI API, hosted or self-hosted.

Retries are decided here instead of in the `openai` package, so that a run can report them and a test can count them.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import openai

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.choices import masses_in, normalised
from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import NoResponseError, WebPageError, explain, is_retryable, refused_parameter
from localemp.engines.openai.models import read_models
from localemp.engines.openai.requests import Requests
from localemp.engines.openai.target import KEY_VARIABLE, Target
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.models.profiles import Price
from localemp.protocol.completions import Choice, Usage, first_choice, read_completion, token_probabilities
from localemp.protocol.errors import ResponseError, ServerError
from localemp.protocol.thinking import opens_thinking, split_thinking
from localemp.sampling import Sampling
from localemp.utils.redaction import redact_settings

INITIAL_BACKOFF = 0.5
"""Seconds before the first retry if the server names no time; doubled for each further retry."""
MAX_BACKOFF = 60.0
"""Longest wait before a retry if the server names no time, in seconds."""
MAX_RETRY_AFTER = 600.0
"""Longest wait that a server may ask for, in seconds; if a rate limit asks for more, the run stops."""
MAX_FAILED_REQUESTS = 20
"""Failed requests (after all retries) until a server that has never answered is given up."""

_log = logging.getLogger(__name__)
_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_NO_LIST = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers to one request.

    Attributes:
        choices: One or more.
        number: How many the server gave, withheld ones included.
        usage: The counts of all.
        notes: On changed sampling parameters.
    """

    choices: tuple[Choice, ...]
    number: int
    usage: Usage
    notes: tuple[str, ...]


class OpenAIEngine(Engine):
    """Sends requests to a server over HTTP, a limited number at a time.

    Retried are the statuses 408, 409, 429 and 5xx, the same errors inside a response, malformed responses, lost
    connections and timeouts. The wait is what the server asks for (Retry-After, plus up to a quarter), else 0.5, 1, 2,
    ... 60 s, shortened by up to half at random. A waiting call keeps its slot, so that fewer requests are in flight
    while the server is overloaded.

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
        api: Literal["chat", "completions"] = "chat",
        concurrency: int = 16,
        context_length: int | None = None,
        price: Price | None = None,
        extra_body: Mapping[str, Any] | None = None,
        max_retries: int = 6,
        timeout: float = 600.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: random.Random | None = None,
    ) -> None:
        """Create an engine; no request is sent before `start` or `chat`.

        Args:
            model: Name of the model on the server.
            base_url: URL of the server, with "/v1"; by default $OPENAI_BASE_URL, else OpenAI's server.
            api_key: By default $OPENAI_API_KEY. Only OpenAI's server requires one.
            api: "chat" sends messages; "completions" sends their contents as one text, separated by blank lines.
            concurrency: Most requests in flight; further calls wait.
            context_length: Length of the model's context in tokens, if known; vLLM's server reports it.
            price: Price of the model; None if unknown, then no cost is computed.
            extra_body: Further fields of the request; they override those of the sampling.
            max_retries: Most retries of a request.
            timeout: Timeout of one attempt, in seconds.
            sleep: Waits between attempts.
            jitter: Random source for the waits.

        Raises:
            OptionError: The URL or the key is invalid, or a number is out of range.
            UnknownNameError: `api` is neither of the two.
        """
        if api not in _PATHS:
            raise UnknownNameError("api", api, _PATHS)
        if concurrency < 1 or max_retries < 0 or timeout <= 0:
            raise OptionError(
                f"concurrency {concurrency}, max_retries {max_retries}, timeout {timeout}: out of range",
                "concurrency must be at least 1, max_retries at least 0, timeout over 0",
            )
        self._target = Target.resolve(model, base_url, api_key)
        self.model, self.api, self.price = model, api, price
        self.concurrency, self.context_length = concurrency, context_length
        self.base_url = self._target.url
        self._requests = Requests(model, api, extra_body or {})
        self._max_retries, self._timeout = max_retries, timeout
        self._sleep, self._jitter = sleep, jitter or random.Random()
        self._slots = asyncio.Semaphore(concurrency)
        self._connection = Connection(self._target, timeout)
        # What is known of the server: it has the API, it has answered, it is a web site.
        self._known = self._answered = self._web_site = False
        self._failed = 0  # requests before the first answer

    def check(self) -> None:
        """Check that there is a key where OpenAI's server needs one.

        Raises:
            FatalEngineError: There is none.
        """
        if self._target.is_openai and not self._target.key:
            raise FatalEngineError(
                f"{self.base_url} requires a key, and {KEY_VARIABLE} is not set",
                f"export {KEY_VARIABLE}=..., or give your own server with --base-url",
            )

    async def start(self) -> None:
        """Fetch the server's list of models, which also checks the connection and the key.

        The list is not relied on: anything unusual about it is logged as a warning.

        Raises:
            FatalEngineError: OpenAI's server without a key, no server, a wrong key, or a complete list without the
                model.
        """
        self.check()
        try:
            models = await self._connection.get("/models", read_models)
        except ResponseError as error:
            self._without_list(error)
            return
        self._known = True
        listed = models.has(self.model)
        if listed is False and not self._target.is_openai:
            raise FatalEngineError(f"{self.base_url} has no model {self.model!r}", f"its models: {models}")
        if not listed:
            _log.warning("%s does not list the model %r; continuing anyway", self.base_url, self.model)
        self.context_length = self.context_length or models.lengths.get(self.model)

    def _without_list(self, error: ResponseError) -> None:
        """Continue if only the list of models is missing."""
        wrong = self._explained(error, 0)
        unreachable = isinstance(error, NoResponseError) and error.why == "unreachable"
        if unreachable or (isinstance(error, ServerError) and error.status == 401):
            raise FatalEngineError(wrong.message, wrong.hint) from error
        self._web_site = isinstance(error, WebPageError)
        # Not every server lists its models, and not every key may read the list.
        status = error.status if isinstance(error, ServerError) else 0
        if status not in _NO_LIST and not (status == 403 and "model.read" in error.message):
            _log.warning("no list of models: %s; continuing anyway", wrong.message)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`.

        `Completion.seconds` counts from the call, including waits for a slot and between attempts.
        An answer without text is an `EngineError`, unless the model's own answer is empty.
        """
        begun = time.perf_counter()
        async with self._slots:
            answers = await self._ask(messages, sampling)
        return self._completions(answers, messages, sampling, begun)[0]

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages; see `Engine.candidates`.

        They are one request, whose prompt is billed once, unless the server gives one answer a request. Its counts and
        its cost are the first answer's; the others have 0.
        """
        found: list[Completion] = []
        if self._requests.takes_number:
            begun = time.perf_counter()
            async with self._slots:
                answers = await self._ask(messages, sampling, number)
            found = self._completions(answers, messages, sampling, begun)[:number]
            if answers.number == 1:
                self._requests.changed["n"] = None  # ignored, not refused
        if missing := number - len(found):
            seed = None if sampling.seed is None else sampling.seed + len(found)
            found += await super().candidates(messages, replace(sampling, seed=seed), missing)
        return found

    def _completions(
        self, answers: _Answers, messages: Sequence[Message], sampling: Sampling, begun: float
    ) -> list[Completion]:
        """Return what was answered; the counts of all are the first one's.

        Raises:
            PromptTooLongError: The server truncated an answer for which the prompt left no room.
            EngineError: No answer has a text.
        """
        texts = [self._split(choice, messages) for choice in answers.choices]
        reasons = [choice.finish_reason or "unknown" for choice in answers.choices]
        usage, limit = answers.usage.beside("".join(thinking for _, thinking in texts)), self.context_length
        # vLLM's server accepts a prompt that leaves too little room and truncates the reply.
        if limit and usage.prompt_tokens and "length" in reasons and usage.prompt_tokens + sampling.most_tokens > limit:
            raise PromptTooLongError(usage.prompt_tokens, sampling.most_tokens, limit)
        if not any(text or thinking for text, thinking in texts) and not any(each.refusal for each in answers.choices):
            self._check_empty(answers.choices[0], reasons[0])
        completions = []
        for choice, (text, thinking), reason in zip(answers.choices, texts, reasons, strict=True):
            refused = not text and choice.refusal
            choices, mass = self._choices(choice, sampling)
            completion = Completion(
                text=choice.refusal if refused else text,
                finish_reason="refusal" if refused else reason,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                seconds=time.perf_counter() - begun,
                cost=self._cost(usage),
                notes=answers.notes,
                thinking=thinking,
                thinking_tokens=usage.reasoning_tokens,
                choices=choices,
                choice_mass=mass,
            )
            completions.append(completion)
            usage = usage.counted_before()
        return completions

    def _choices(self, choice: Choice, sampling: Sampling) -> tuple[dict[str, float] | None, float | None]:
        """Return the probability of each choice and of all together; None where the server does not give them."""
        if not sampling.choices or (masses := masses_in(token_probabilities(choice), sampling.choices)) is None:
            return None, None
        return normalised(masses)

    def _split(self, choice: Choice, messages: Sequence[Message]) -> tuple[str, str]:
        """Return text and thinking, which servers separate or leave in the text."""
        opened = self.api == "completions" and opens_thinking(messages[-1].content)
        text, thinking = split_thinking(choice.text, opened)
        return text, "\n".join(filter(None, (choice.thinking.strip(), thinking)))

    def _check_empty(self, choice: Choice, reason: str) -> None:
        if reason == "length":
            raise EngineError(
                f"{self.base_url} returned no text within the token limit; the model may think before it answers",
                "raise --max-tokens, or --thinking-budget if its profile says that it thinks",
            )
        if choice.message.get("content") is None:
            raise EngineError(f"{self.base_url} returned an answer without text (finish reason {reason!r})")

    def _cost(self, usage: Usage) -> float | None:
        if self.price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        return self.price.of(usage.prompt_tokens, usage.completion_tokens, cached)

    def describe(self) -> dict[str, Any]:
        """Return everything that affects replies, for the manifest; never the key."""
        return {
            "engine": self.name,
            "openai": openai.__version__,
            "base_url": self.base_url,
            "api": self.api,
            "model": self.model,
            "context_length": self.context_length,
            "price": self.price.model_dump(mode="json", exclude_none=True) if self.price else None,
            "extra_body": redact_settings(self._requests.extra),
            "changed_parameters": dict(sorted(self._requests.changed.items())),
        }

    async def close(self) -> None:
        """Close the connections; the engine cannot be started again."""
        await self._connection.close()

    async def _ask(self, messages: Sequence[Message], sampling: Sampling, number: int = 1) -> _Answers:
        while True:  # each iteration has one parameter less that can be refused
            body, notes = self._requests.body(messages, sampling, number)
            try:
                choices, given, usage = await self._send(body)
            except ResponseError as error:
                if not self._requests.change(refused_parameter(error), body):
                    raise self._failure(error, sampling.most_tokens) from error
            else:
                self._known = self._answered = True
                return _Answers(choices, given, usage, notes)

    def _failure(self, error: ResponseError, reply_tokens: int) -> EngineError:
        """Return the error to raise for a failed request."""
        self._failed += error.is_transient
        found = self._explained(error, reply_tokens)
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

    async def _send(self, body: Mapping[str, Any]) -> tuple[tuple[Choice, ...], int, Usage]:
        """Send a request until it succeeds or no retry is left; raises the last error."""
        tries = 0
        while True:
            try:
                return await self._connection.post(_PATHS[self.api], body, _read)
            except ResponseError as error:
                # If the list of models was a web page, too, the address is wrong; a retry does not help.
                elsewhere = self._web_site and not self._known and isinstance(error, WebPageError)
                if tries == self._max_retries or elsewhere or not is_retryable(error, body):
                    raise
                wait, reason = self._wait(error, tries), error.message
            tries += 1
            _log.debug("%s: %s; retry %d of %d in %.1f s", self.base_url, reason, tries, self._max_retries, wait)
            await self._sleep(wait)

    def _wait(self, error: ResponseError, tries: int) -> float:
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
        return float(min(INITIAL_BACKOFF * 2.0**tries, MAX_BACKOFF) * self._jitter.uniform(0.5, 1.0))


def _read(content: bytes) -> tuple[tuple[Choice, ...], int, Usage]:
    """Return the answers that the server did not withhold, the number with those that it did, and the counts.

    Raises:
        ResponseError: It is not a completion, or all answers are withheld.
    """
    answer = read_completion(content)
    given = tuple(choice for choice in answer.choices if choice.finish_reason != "content_filter")
    return given or (first_choice(answer),), len(answer.choices), answer.usage or Usage()
