"""Builds request bodies, and adapts them to parameters that a model refuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from localemp.dialogue import Message
from localemp.engines.openai.failures import refused_parameter
from localemp.engines.openai.servers import OTHER, Server
from localemp.errors import FatalEngineError
from localemp.models.thinking_mode import NO_REASONING
from localemp.protocol.errors import ResponseError, ServerError
from localemp.sampling import Sampling

_DROPPABLE = {
    "temperature", "top_p", "seed", "stop", "response_format", "thinking_token_budget", "n",
}  # fmt: skip
_FURTHER = {*(field.name for field in fields(Sampling)), "structured_outputs"} - _DROPPABLE - {"max_tokens"}
NOT_TAKEN = "omit it: --sampling, [sampling] of the model's profile, or sampling of a flow's stage"
_LIKELIEST = 20  # tokens whose probability is asked for; the most that OpenAI's API allows
_OF_CHOICES = ("logprobs", "top_logprobs")
_HOLD_SCHEMAS = {"items", "prefixItems", "anyOf", "oneOf", "allOf"}


class Requests:
    """Builds the request bodies for one model.

    A parameter that the model refuses is replaced (max_tokens by max_completion_tokens) or dropped (temperature, top_p,
    seed, stop, response_format, logprobs, thinking_token_budget, n) in all later requests. Further sampling parameters
    are never dropped: a refusal of one is an error.

    Args:
        model: Name of the model on the server.
        api: "chat" sends messages, "completions" one text.
        extra: Further fields; they override those of the sampling.
        server: What is known of the server.

    Attributes:
        changed: Replacement of each refused parameter; None if it is dropped.
        server: What is known of the server; it may change once the server says who it is.
    """

    def __init__(
        self, model: str, api: Literal["chat", "completions"], extra: Mapping[str, Any], server: Server = OTHER
    ) -> None:
        self.model, self.api, self.extra, self.server = model, api, dict(extra), server
        reasons = self.extra.get("reasoning_effort", NO_REASONING) != NO_REASONING
        self.changed: dict[str, str | None] = dict.fromkeys(server.fixed_while_reasoning if reasons else ())

    def body(
        self, messages: Sequence[Message], sampling: Sampling, number: int = 1
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the body of a request for a number of answers, and notes on changed sampling parameters.

        Raises:
            FatalEngineError: The server is known not to take one of the further sampling parameters.
        """
        for parameter, reason in untaken(self.server, sampling).items():
            raise FatalEngineError(f"{parameter}: {reason}", NOT_TAKEN)
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
        settings |= further_fields(sampling)
        settings |= {"n": number} if number > 1 else {}
        if sampling.schema and self.api == "chat":
            settings["response_format"] = response_format(sampling.schema)
        if sampling.choices and self.api == "chat":
            settings |= {"logprobs": True, "top_logprobs": _LIKELIEST}
        notes = []
        renamed = self.server.renamed if self.api == "chat" else {}
        for name, value in settings.items():
            if (why := self.server.left_out.get(name)) and name not in self.extra:
                notes.append(f"{name} left out: {why}")
                continue
            if value == self.server.assumed.get(name):
                continue
            usual = renamed.get(name, name)
            instead = self.changed.get(name, usual)
            if instead is not None:
                body[instead] = value
            if instead != usual:
                notes.append(f"{name} {f'sent as {instead}' if instead else 'dropped'}: the model refuses it")
        most = self.server.most_temperature
        if most is not None and body.get("temperature", 0) > most:
            body["temperature"] = most
            notes.append(f"temperature sent as {most:g}: it is the highest that {self.server.name} takes")
        return body | self.extra, tuple(notes)

    @property
    def takes_number(self) -> bool:
        """Whether a request may ask for several answers, as far as is known."""
        return not {"n"} & {*self.changed, *self.extra, *self.server.left_out}

    def change(self, refused: str | None, sent: Mapping[str, Any]) -> bool:
        """Record a refused parameter; return False if it can be neither replaced nor dropped.

        Concurrent requests may all be refused: each finds the parameter in what it sent, and is sent again.
        """
        if refused not in sent or refused in self.extra:
            return False
        changes = changes_for(refused, self.api)
        self.changed |= changes
        return bool(changes)

    def refused_extra(self, error: ResponseError) -> str | None:
        """Return the further field that an error is about, which all requests have; None if it is about something else.

        Nothing replaces what the user or the profile has chosen.
        """
        return next((name for name in _named(error) if name in self.extra), None)

    def refused_sampling(self, error: ResponseError) -> str | None:
        """Return the further sampling parameter that an error is about; None if it is about something else."""
        names = {new or name: name for name, new in self.server.renamed.items()}
        return next((told for name in _named(error) if (told := names.get(name, name)) in _FURTHER), None)


def _named(error: ResponseError) -> list[str]:
    """Return the fields of a request that an error names; none if it does not refuse the request."""
    if not isinstance(error, ServerError) or error.status not in (400, 422):
        return []
    return [name for name in (refused_parameter(error), error.param) if name]


def untaken(server: Server, sampling: Sampling) -> dict[str, str]:
    """Return the further sampling parameters that a server is known not to take, each with the reason."""
    if server.takes is None:
        return {}
    return {name: f"{server.name} does not take it" for name in sampling.further if name not in server.takes}


def further_fields(sampling: Sampling) -> dict[str, Any]:
    """Return the fields for parameters that not every server takes, those that are set; the names are vLLM's."""
    further = sampling.further
    form = {name: further.pop(name) for name in sampling.form}
    return further | ({"structured_outputs": form} if form else {})


def changes_for(refused: str | None, api: Literal["chat", "completions"] = "chat") -> dict[str, str | None]:
    """Return what becomes of a refused parameter: its new name, or None if it is dropped; empty if it has to stay."""
    if refused == "max_tokens" and api == "chat":
        return {refused: "max_completion_tokens"}
    if refused in _OF_CHOICES:
        return dict.fromkeys(_OF_CHOICES)  # each is of no use without the other
    return {refused: None} if refused in _DROPPABLE else {}


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
