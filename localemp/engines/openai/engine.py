"""Any server that speaks the OpenAI protocol, hosted or one's own.

What is tried again, how often and after how long is decided here, so that a run can say so and a test can count it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import openai

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import NoAnswerError, WebPageError, explain, may_retry, refused_parameter
from localemp.engines.openai.models import read_models
from localemp.engines.openai.requests import Requests
from localemp.engines.openai.target import KEY_VARIABLE, Target
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.models.profiles import Price
from localemp.protocol.answers import Choice, Usage, first_choice, read_answer
from localemp.protocol.errors import AnswerError, ServedError
from localemp.protocol.thinking import opens_thinking, split_thinking
from localemp.sampling import Sampling
from localemp.utils.redaction import redact_settings

FIRST_WAIT = 0.5
"""Seconds before the first retry where the server names no time; each further one waits twice as long."""
LONGEST_WAIT = 60.0
"""Most seconds that a wait of our own choice grows to."""
LONGEST_ASKED = 600.0
"""Most seconds that we wait because the server asks for it; where a limit asks for more, we stop."""
GIVEN_UP = 20
"""Requests without an answer, all their retries included, after which a server that never gave one is given up."""

_log = logging.getLogger(__name__)
_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_NO_LIST = (404, 405, 501)


class OpenAIEngine(Engine):
    """Asks a server over HTTP, a bounded number of requests at a time.

    Tried again: 408, 409, 429, 5xx, the same as errors inside an answer, answers that cannot be read, lost connections
    and time-outs, after the time that the server names (Retry-After, never earlier, up to a quarter later) or else
    after 0.5, 1, 2, ... 60 s, shortened by up to a half at random. A call that waits keeps its place, so that fewer
    requests are under way while the server is short of room.

    What is left after all tries is an error of this reply alone, unless nothing further can be had: a wrong key, no
    quota, nobody there. A web page, 403, 404 or an answer of another kind is fatal only while the server has not shown
    that it is the right one; so are the first `GIVEN_UP` calls, where all of them fail.

    A parameter that the model refuses is replaced or dropped for all later calls (see `Requests`); `Completion.notes`
    says so for every call that it affects.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
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
        """Set up; nothing is sent before `start` or `chat`.

        Args:
            model: The model's name at the server.
            base_url: Where the server is, with "/v1"; else the environment's OPENAI_BASE_URL, else OpenAI's own.
            api_key: Else the environment's OPENAI_API_KEY. Only OpenAI's own server cannot do without.
            api: "chat" sends messages, "completions" one text: the messages' contents with a blank line between.
            concurrency: How many requests are under way at once; further calls wait.
            context_length: Of the model, in tokens, where it is known; vLLM's server tells it.
            price: None where it is not known; then no cost is counted.
            extra_body: Further fields of the request; they win over those of the sampling.
            max_retries: How many times a request is sent again after the first.
            timeout: Seconds for one try.
            sleep: Waits between tries.
            jitter: Source of the random part of the waits.

        Raises:
            OptionError: A URL that is none, a key that cannot be one, or a number out of range.
            UnknownNameError: An `api` other than the two.
        """
        if api not in _PATHS:
            raise UnknownNameError("api", api, _PATHS)
        if concurrency < 1 or max_retries < 0 or timeout <= 0:
            raise OptionError(
                f"concurrency {concurrency}, max_retries {max_retries}, timeout {timeout}: out of range",
                "concurrency must be at least 1, max_retries at least 0, timeout over 0",
            )
        self._target = Target.find(model, base_url, api_key)
        self.model, self.api, self.price = model, api, price
        self.concurrency, self.context_length = concurrency, context_length
        self.base_url = self._target.url
        self._requests = Requests(model, api, extra_body or {})
        self._max_retries, self._timeout = max_retries, timeout
        self._sleep, self._jitter = sleep, jitter or random.Random()
        self._slots = asyncio.Semaphore(concurrency)
        self._connection = Connection(self._target, timeout)
        # What the server has shown of itself: that it speaks the API, that it answers, that it is a web site.
        self._known = self._answered = self._web_site = False
        self._failed = 0  # calls, before the first answer

    async def start(self) -> None:
        """Ask the server for its models, which also tells whether it is there and takes the key.

        The list is advice: what is odd about it is logged as a warning.

        Raises:
            FatalEngineError: No key for OpenAI's own server, nobody answers, a wrong key, or a server that lists its
                few models, but not this one.
        """
        if self._target.is_openai and not self._target.key:
            raise FatalEngineError(
                f"{self.base_url} needs a key, and {KEY_VARIABLE} is not set",
                f"export {KEY_VARIABLE}=..., or name a server of your own with --base-url",
            )
        try:
            models = await self._connection.get("/models", read_models)
        except AnswerError as error:
            self._without_list(error)
            return
        self._known = True
        listed = models.has(self.model)
        if listed is False and not self._target.is_openai:
            raise FatalEngineError(f"{self.base_url} has no model {self.model!r}", f"it has: {models}")
        if not listed:
            _log.warning("%s does not list the model %r; asking all the same", self.base_url, self.model)
        self.context_length = self.context_length or models.lengths.get(self.model)

    def _without_list(self, error: AnswerError) -> None:
        """Go on where the list is all that is missing."""
        wrong = self._explained(error, 0)
        unreachable = isinstance(error, NoAnswerError) and error.why == "unreachable"
        if unreachable or (isinstance(error, ServedError) and error.status == 401):
            raise FatalEngineError(wrong.message, wrong.hint) from error
        self._web_site = isinstance(error, WebPageError)
        # Not every server lists, nor may every key.
        status = error.status if isinstance(error, ServedError) else 0
        if status not in _NO_LIST and not (status == 403 and "model.read" in error.message):
            _log.warning("no list of models: %s; asking all the same", wrong.message)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`.

        `Completion.seconds` counts from the call: waiting for a place and between tries is in it.
        An answer without any text is an `EngineError`, unless the model sent an empty text of its own accord.
        """
        begun = time.perf_counter()
        async with self._slots:
            choice, usage, notes = await self._ask(messages, sampling)
        text, thinking = self._split(choice, messages)
        reason = choice.finish_reason or "unknown"
        prompt, limit = usage.prompt_tokens, self.context_length
        # vLLM's server does not refuse a prompt that leaves too little room, it cuts the reply short.
        if limit and prompt and reason == "length" and prompt + sampling.max_tokens > limit:
            raise PromptTooLongError(prompt, sampling.max_tokens, limit)
        if not text and choice.refusal:
            text, reason = choice.refusal, "refusal"
        elif not text and not thinking:
            self._check_empty(choice, reason)
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=prompt,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            seconds=time.perf_counter() - begun,
            cost=self._cost(usage),
            notes=notes,
            thinking=thinking,
        )

    def _split(self, choice: Choice, messages: Sequence[Message]) -> tuple[str, str]:
        """Text and thinking, which servers set apart or leave in the text."""
        opened = self.api == "completions" and opens_thinking(messages[-1].content)
        text, thinking = split_thinking(choice.text, opened)
        return text, "\n".join(filter(None, (choice.thinking.strip(), thinking)))

    def _check_empty(self, choice: Choice, reason: str) -> None:
        if reason == "length":
            raise EngineError(
                f"{self.base_url} gave no text within the length asked for, as a model does that thinks first",
                "give it more room with a larger --max-tokens",
            )
        if choice.message.get("content") is None:
            raise EngineError(f"{self.base_url} gave an answer without text (finish reason {reason!r})")

    def _cost(self, usage: Usage) -> float | None:
        if self.price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return self.price.of(usage.prompt_tokens, usage.completion_tokens)

    def describe(self) -> dict[str, Any]:
        """What decides the replies, for the manifest; never the key."""
        return {
            "engine": self.name,
            "openai": openai.__version__,
            "base_url": self.base_url,
            "api": self.api,
            "model": self.model,
            "context_length": self.context_length,
            "price": self.price.model_dump(mode="json") if self.price else None,
            "extra_body": redact_settings(self._requests.extra),
            "changed_parameters": dict(sorted(self._requests.changed.items())),
        }

    async def close(self) -> None:
        """Close the connections; the engine cannot be started again."""
        await self._connection.close()

    async def _ask(self, messages: Sequence[Message], sampling: Sampling) -> tuple[Choice, Usage, tuple[str, ...]]:
        while True:  # each further turn has one parameter less to be refused
            body, notes = self._requests.body(messages, sampling)
            try:
                choice, usage = await self._send(body)
            except AnswerError as error:
                if not self._requests.change(refused_parameter(error), body):
                    raise self._failure(error, sampling.max_tokens) from error
            else:
                self._known = self._answered = True
                return choice, usage, notes

    def _failure(self, error: AnswerError, reply_tokens: int) -> EngineError:
        """The error to raise for a call that failed."""
        self._failed += error.may_pass
        found = self._explained(error, reply_tokens)
        if self._answered or self._failed < GIVEN_UP or isinstance(found, FatalEngineError):
            return found
        return FatalEngineError(
            f"{self._failed} requests, and not one answer: {found.message}", found.hint or "see what ails the server"
        )

    def _explained(self, error: AnswerError, reply_tokens: int) -> EngineError:
        return explain(
            error, self._target, reply_tokens, self.context_length, known=self._known, answered=self._answered
        )

    async def _send(self, body: Mapping[str, Any]) -> tuple[Choice, Usage]:
        """Send until it succeeds or no retry is left; raises what the last try raised."""
        tries = 0
        while True:
            try:
                return await self._connection.post(_PATHS[self.api], body, _read)
            except AnswerError as error:
                # Where the list of models was a web page, too, this is no passing trouble.
                elsewhere = self._web_site and not self._known and isinstance(error, WebPageError)
                if tries == self._max_retries or elsewhere or not may_retry(error, body):
                    raise
                wait, said = self._wait(error, tries), error.message
            tries += 1
            _log.debug("%s: %s; retry %d of %d in %.1f s", self.base_url, said, tries, self._max_retries, wait)
            await self._sleep(wait)

    def _wait(self, error: AnswerError, tries: int) -> float:
        asked = error.retry_after
        if asked is not None and asked <= LONGEST_ASKED:
            return asked * self._jitter.uniform(1.0, 1.25)
        # A limit is for all requests; what a page of a server that has answered says is not taken for one.
        limited = isinstance(error, ServedError) and error.status == 429
        if asked is not None and (limited or not self._answered):
            raise FatalEngineError(
                f"{self.base_url} asks to wait {asked:.0f} seconds: {error.message}",
                "run the same command again then",
            ) from error
        return float(min(FIRST_WAIT * 2.0**tries, LONGEST_WAIT) * self._jitter.uniform(0.5, 1.0))


def _read(content: bytes) -> tuple[Choice, Usage]:
    answer = read_answer(content)
    return first_choice(answer), answer.usage or Usage()
