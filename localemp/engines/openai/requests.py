"""Builds request bodies, and adapts them to parameters that a model refuses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from localemp.dialogue import Message
from localemp.models.thinking_mode import NO_REASONING
from localemp.sampling import Sampling

_DROPPABLE = {
    "temperature", "top_p", "seed", "stop", "response_format", "repetition_penalty", "thinking_token_budget", "n",
}  # fmt: skip
_LIKELIEST = 20  # tokens whose probability is asked for; the most that OpenAI's API allows
_OF_CHOICES = ("logprobs", "top_logprobs")
# What OpenAI's own service is known to refuse, so that no request has to be refused first: a batch would be lost by it.
_NAMES_AT_OPENAI: dict[str, str | None] = {"max_tokens": "max_completion_tokens", "thinking_token_budget": None}
_FIXED_WHILE_REASONING = ("temperature", "top_p")
_HOLD_SCHEMAS = {"items", "prefixItems", "anyOf", "oneOf", "allOf"}


class Requests:
    """Builds the request bodies for one model.

    A parameter that the model refuses is replaced (max_tokens by max_completion_tokens) or dropped (temperature, top_p,
    seed, stop, response_format, repetition_penalty, logprobs, thinking_token_budget, n) in all later requests.

    Args:
        model: Name of the model on the server.
        api: "chat" sends messages, "completions" one text.
        extra: Further fields; they override those of the sampling.
        at_openai: Whether they go to OpenAI's own service, of which some refusals are known beforehand: it has its own
            name for max_tokens, no thinking_token_budget, and no temperature and top_p while a model reasons.

    Attributes:
        changed: Replacement of each refused parameter; None if it is dropped.
    """

    def __init__(
        self, model: str, api: Literal["chat", "completions"], extra: Mapping[str, Any], at_openai: bool = False
    ) -> None:
        self.model, self.api, self.extra = model, api, dict(extra)
        self._renamed = _NAMES_AT_OPENAI if at_openai and api == "chat" else {}
        reasons = self.extra.get("reasoning_effort", NO_REASONING) != NO_REASONING
        self.changed: dict[str, str | None] = dict.fromkeys(_FIXED_WHILE_REASONING) if at_openai and reasons else {}

    def body(
        self, messages: Sequence[Message], sampling: Sampling, number: int = 1
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the body of a request for a number of answers, and notes on changed sampling parameters."""
        body: dict[str, Any] = {"model": self.model}
        if self.api == "chat":
            body["messages"] = [{"role": message.role, "content": message.content} for message in messages]
        else:
            body["prompt"] = "\n\n".join(message.content for message in messages)
        # top_p is always sent: a server's default for a model need not be 1.
        settings: dict[str, Any] = {
            "max_tokens": sampling.most_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.thinking_budget is not None:
            settings["thinking_token_budget"] = sampling.thinking_budget  # vLLM's name
        settings |= {"seed": sampling.seed} if sampling.seed is not None else {}
        settings |= {"stop": list(sampling.stop)} if sampling.stop else {}
        settings |= {"repetition_penalty": sampling.repetition_penalty} if sampling.repetition_penalty != 1 else {}
        settings |= {"n": number} if number > 1 else {}
        if sampling.schema and self.api == "chat":
            settings["response_format"] = response_format(sampling.schema)
        if sampling.choices and self.api == "chat":
            settings |= {"logprobs": True, "top_logprobs": _LIKELIEST}
        notes = []
        for name, value in settings.items():
            instead = self.changed.get(name, self._renamed.get(name, name))
            if instead is not None:
                body[instead] = value
            if instead != self._renamed.get(name, name):
                notes.append(f"{name} {f'sent as {instead}' if instead else 'dropped'}: the model refuses it")
        return body | self.extra, tuple(notes)

    @property
    def takes_number(self) -> bool:
        """Whether a request may ask for several answers, as far as is known."""
        return "n" not in self.changed and "n" not in self.extra

    def change(self, refused: str | None, sent: Mapping[str, Any]) -> bool:
        """Record a refused parameter; return False if it can be neither replaced nor dropped.

        Concurrent requests may all be refused: each finds the parameter in what it sent, and is sent again.
        """
        if refused not in sent or refused in self.extra:
            return False
        if refused == "max_tokens" and self.api == "chat":
            self.changed[refused] = "max_completion_tokens"
        elif refused in _DROPPABLE:
            self.changed[refused] = None
        elif refused in _OF_CHOICES:
            self.changed |= dict.fromkeys(_OF_CHOICES)  # each is of no use without the other
        else:
            return False
        return True


def response_format(schema: str) -> dict[str, Any]:
    """Return the field that asks for an answer of a JSON schema, which is given as text.

    OpenAI's servers hold only a schema whose objects are closed to the letter ("strict"), and refuse another one that
    claims to be; vLLM's server holds any.
    """
    form = json.loads(schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": _is_closed(form), "schema": form}}


def _is_closed(schema: Any) -> bool:
    """Return whether all objects in a schema require all of their properties, and allow no others."""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    fields = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and set(fields) <= set(schema.get("required", ()))
    inner = [*fields.values(), *(schema[key] for key in _HOLD_SCHEMAS & schema.keys())]
    return (closed or not (fields or schema.get("type") == "object")) and all(map(_is_closed, inner))
