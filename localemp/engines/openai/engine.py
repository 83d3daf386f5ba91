"""Any server that speaks the OpenAI protocol, hosted or one's own, through the `openai` package.

The package's own retries are off: what is tried again, how often and after how long is decided here, so that a run can
say so and a test can count it.
"""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import openai

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, Sampling
from localemp.engines.openai.answer import read_answer, read_models
from localemp.engines.openai.failures import (
    explain,
    lists_nothing,
    may_retry,
    refused_parameter,
    seconds_asked,
    server_message,
)
from localemp.engines.openai.target import KEY_VARIABLE, URL_HINT, Target
from localemp.errors import FatalEngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.profiles import Price

FIRST_WAIT = 0.5
"""Seconds before the first retry where the server names no time; each further one waits twice as long."""
LONGEST_WAIT = 60.0
"""Most seconds that a wait of our own choice grows to."""
LONGEST_ASKED = 600.0
"""Most seconds that we wait because the server asks for it; asked for more, we stop."""

_log = logging.getLogger(__name__)
_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_DROPPABLE = {"temperature", "top_p", "seed", "stop", "response_format"}
_SECRET = re.compile("key|secret|password|authorization", re.IGNORECASE)
_SHORT_LIST = 20  # a server of one's own lists a few models; of a longer list we do not know that it is complete


class OpenAIEngine(Engine):
    """Asks a server over HTTP, a bounded number of requests at a time.

    Tried again: 408, 409, 429, 5xx, lost connections and time-outs, after the time that the server names (Retry-After,
    never earlier, up to a quarter later) or else after 0.5, 1, 2, ... 60 s, shortened by up to a half at random.
    A call that waits keeps its place, so that fewer requests are under way while the server is short of room.

    A parameter that the model refuses is replaced (max_tokens by max_completion_tokens) or dropped (temperature, top_p,
    seed, stop, response_format) once for all later calls; `Completion.notes` says so for every call that it affects.
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
        self._extra_body = dict(extra_body or {})
        self._max_retries, self._timeout = max_retries, timeout
        self._sleep, self._jitter = sleep, jitter or random.Random()
        self._changed: dict[str, str | None] = {}  # refused parameter -> what is sent in its place
        self._slots = asyncio.Semaphore(concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=self._target.address,
            api_key=self._target.key or "not-needed",
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
        )

    async def start(self) -> None:
        """Ask the server for its models, which also tells whether it is there and takes the key.

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
            listing = await self._send("/models", keep_trying=False)
        except openai.APIError as error:
            if lists_nothing(error):
                return
            wrong = explain(error, self._target, 0, self.context_length)
            raise FatalEngineError(wrong.message, wrong.hint) from error
        except ValueError as error:
            raise FatalEngineError(f"{self.base_url} lists its models in broken JSON", URL_HINT) from error
        models = read_models(listing, self.base_url)
        known = {model.id for model in models}
        # Ollama lists "llama3:latest" and takes "llama3".
        usable = known & {self.model, f"{self.model}:latest"}
        if not usable and not self._target.is_openai and 0 < len(known) <= _SHORT_LIST:
            raise FatalEngineError(
                f"{self.base_url} has no model {self.model!r}", f"it has: {', '.join(sorted(known))}"
            )
        lengths = [model.max_model_len for model in models if model.id == self.model]
        self.context_length = self.context_length or (lengths[0] if lengths else None)

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`.

        `Completion.seconds` counts from the call: waiting for a place and between tries is in it.
        An answer without any text is an `EngineError`, unless the model sent an empty text of its own accord.
        """
        begun = time.perf_counter()
        async with self._slots:
            data, notes = await self._ask(messages, sampling)
        answer = read_answer(data, self.base_url)
        prompt, reply, limit = answer.prompt_tokens, answer.completion_tokens, self.context_length
        # vLLM's server does not refuse a prompt that leaves too little room, it cuts the reply short.
        if limit and prompt and answer.finish_reason == "length" and prompt + sampling.max_tokens > limit:
            raise PromptTooLongError(prompt, sampling.max_tokens, limit)
        return Completion(
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=prompt,
            completion_tokens=reply,
            cached_tokens=answer.cached_tokens,
            seconds=time.perf_counter() - begun,
            cost=self.price.of(prompt, reply) if self.price and prompt is not None and reply is not None else None,
            notes=notes,
        )

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
            "extra_body": {name: "***" if _SECRET.search(name) else value for name, value in self._extra_body.items()},
            "changed_parameters": dict(sorted(self._changed.items())),
        }

    async def close(self) -> None:
        """Close the connections; the engine cannot be started again."""
        await self._client.close()

    async def _ask(self, messages: Sequence[Message], sampling: Sampling) -> tuple[object, tuple[str, ...]]:
        while True:  # each further turn has one parameter less to be refused
            body, notes = self._request(messages, sampling)
            try:
                return await self._send(_PATHS[self.api], body), notes
            except openai.APIError as error:
                if not self._change(refused_parameter(error), body):
                    raise explain(error, self._target, sampling.max_tokens, self.context_length) from error
            except ValueError as error:
                raise FatalEngineError(f"{self.base_url} answered in broken JSON", URL_HINT) from error

    def _request(self, messages: Sequence[Message], sampling: Sampling) -> tuple[dict[str, Any], tuple[str, ...]]:
        body: dict[str, Any] = {"model": self.model}
        if self.api == "chat":
            body["messages"] = [{"role": message.role, "content": message.content} for message in messages]
        else:
            body["prompt"] = "\n\n".join(message.content for message in messages)
        # top_p too is always sent: a server's default for a model need not be 1.
        settings: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        settings |= {"seed": sampling.seed} if sampling.seed is not None else {}
        settings |= {"stop": list(sampling.stop)} if sampling.stop else {}
        if sampling.schema and self.api == "chat":
            form = {"name": "answer", "strict": True, "schema": json.loads(sampling.schema)}
            settings["response_format"] = {"type": "json_schema", "json_schema": form}
        notes = []
        for name, value in settings.items():
            instead = self._changed.get(name, name)
            if instead is not None:
                body[instead] = value
            if instead != name:
                notes.append(f"{name} {f'sent as {instead}' if instead else 'dropped'}: the model refuses it")
        return body | self._extra_body, tuple(notes)

    def _change(self, refused: str | None, body: Mapping[str, Any]) -> bool:
        """Remember what to do about a refused parameter; False where nothing can be done.

        Requests that were under way together may all be refused: each then finds it in what it sent, and sends again.
        """
        if refused not in body or refused in self._extra_body:
            return False
        if refused == "max_tokens" and self.api == "chat":
            self._changed[refused] = "max_completion_tokens"
        elif refused in _DROPPABLE:
            self._changed[refused] = None
        else:
            return False
        return True

    async def _send(self, path: str, body: Mapping[str, Any] | None = None, keep_trying: bool = True) -> object:
        """Send until it succeeds or no retry is left; raises what the `openai` package raises.

        Args:
            path: After the base URL.
            body: Of a POST; a GET has none.
            keep_trying: Whether a server that cannot be reached is tried again.
        """
        tries = 0
        while True:
            try:
                if body is None:
                    return await self._client.get(path, cast_to=object, options={"timeout": min(self._timeout, 30.0)})
                return await self._client.post(path, cast_to=object, body=body)
            except openai.APIError as error:
                unreachable = isinstance(error, openai.APIConnectionError)
                if tries == self._max_retries or not may_retry(error) or (unreachable and not keep_trying):
                    raise
                wait = self._wait(error, tries)
                said = server_message(error, self._target.key)
            tries += 1
            _log.info("%s: %s; retry %d of %d in %.1f s", self.base_url, said, tries, self._max_retries, wait)
            await self._sleep(wait)

    def _wait(self, error: openai.APIError, tries: int) -> float:
        asked = seconds_asked(error)
        if asked is not None and asked > LONGEST_ASKED:
            raise FatalEngineError(
                f"{self.base_url} asks to wait {asked:.0f} seconds: {server_message(error, self._target.key)}",
                "run the same command again then",
            ) from error
        if asked:
            return asked * self._jitter.uniform(1.0, 1.25)
        return float(min(FIRST_WAIT * 2.0**tries, LONGEST_WAIT) * self._jitter.uniform(0.5, 1.0))
