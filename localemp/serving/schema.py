"""Requests for a strategy: an OpenAI chat request, validated and split into dialogue, instruction and the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError, create_model

from localemp.dialogue import Dialogue, Message, Role
from localemp.models.thinking_mode import ThinkingMode
from localemp.prompting.flow import FACTS
from localemp.protocol.thinking import split_thinking
from localemp.serving.errors import RequestError
from localemp.strategies.registry import part_options, parts_with
from localemp.utils.json_reader import kind_of
from localemp.utils.option import Option
from localemp.utils.text import one_line, well_formed

MOST_MESSAGES = 4_000
"""The most messages of one dialogue."""


class RequestOptions(BaseModel):
    """The request's key `localemp`; `_request_form` adds the options of the strategies' parts.

    Attributes:
        variant: The variant of the prompts.
        emotion, situation: Known ones, which two-stage then does not infer, and flows can show.
        trace: Whether the response holds a trace of what happened inside.
        sampling: Whether the bare model is asked with the sampling parameters of the strategies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    variant: Literal["paper", "released"] | None = None
    emotion: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    situation: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    trace: bool = False
    sampling: Literal[True] | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The facts that the request has."""
        return tuple(name for name in FACTS if getattr(self, name) is not None)

    @property
    def of_parts(self) -> dict[str, Any]:
        """The values for the parts' own options, by the options' names."""
        names = self.model_fields_set - RequestOptions.model_fields.keys()
        return {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}


def _request_form() -> type[RequestOptions]:
    """Return the model of the key `localemp`, with those options of all parts that requests may set."""
    return _form_with(tuple(option for option in part_options() if option.in_requests is not None))


@cache
def _form_with(options: tuple[Option, ...]) -> type[RequestOptions]:
    fields: dict[str, Any] = {option.name: (option.in_requests | None, None) for option in options}
    return create_model("RequestOptions", __base__=RequestOptions, **fields)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated request.

    Attributes:
        adapter: The name of the model's adapter; empty for none.
        strategy: The strategy's parts, in canonical order; empty for the bare model.
        dialogue: The messages of user and assistant.
        instruction: The system messages.
        options: The key `localemp`.
        rest: The body without model, messages and `localemp`; it goes to the last stage.
        stream: Whether the response is streamed.
        usage: Whether the stream ends with the usage.
    """

    adapter: str
    strategy: tuple[str, ...]
    dialogue: Dialogue
    instruction: str
    options: RequestOptions
    rest: Mapping[str, Any]
    stream: bool
    usage: bool

    @property
    def messages(self) -> list[Message]:
        """The messages for the bare model, which sees them as they are."""
        system = [Message("system", self.instruction)] if self.instruction else []
        roles: tuple[Role, Role] = ("user", "assistant")
        return [*system, *(Message(roles[at % 2], text) for at, text in enumerate(self.dialogue.turns))]


# Each needs messages that a strategy writes itself, or a response that is not a listener's reply.
_NOT_WITH_STRATEGIES = (
    "tools", "functions", "function_call", "audio", "prediction", "documents", "chat_template", "chat_template_kwargs",
    "continue_final_message", "echo", "prompt_logprobs", "use_beam_search",
)  # fmt: skip
# Some APIs turn thinking on and off with it.
_SWITCH = "enable_thinking"
# Some clients always send these; some servers reject them without tools.
_ONLY_WITH_TOOLS = ("tool_choice", "parallel_tool_calls")

_Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]
_Tokens = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
_Penalty = Annotated[float, Field(ge=-2, le=2, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class SamplingFields(BaseModel):
    """Sampling fields of the last stage, OpenAI's and vLLM's, validated before an earlier stage costs anything."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    n: Annotated[int, Field(ge=1, le=128, strict=True)] | None = None
    seed: _Int64 | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    response_format: dict[str, Any] | None = None
    stop: StrictStr | list[StrictStr] | None = None
    top_k: _Int64 | None = None
    min_p: _Share | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, strict=True)] | None = None
    stop_token_ids: list[_Int64] | None = None
    ignore_eos: StrictBool | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**31, strict=True)] | None = None


def read_request(
    content: Mapping[str, Any], strategy: str, adapter: str = "", thinking: ThinkingMode | None = None
) -> ChatRequest:
    """Validate a request for a strategy.

    Args:
        content: The decoded body.
        strategy: The canonical name of the strategy, which is offered; empty for the bare model, if the request has
            the key `localemp`.
        adapter: The adapter in the model's name; empty for none.
        thinking: How the model thinks, which the operator decides; a client may say the same.

    Raises:
        RequestError: The request is invalid; the message says which key and why.
    """
    names = tuple(strategy.split("+")) if strategy else ()
    content = _without_thinking(content, thinking or ThinkingMode())
    for key in _NOT_WITH_STRATEGIES:
        if content.get(key) not in (None, False, "none", [], {}):
            raise RequestError(
                f"{key!r} cannot be used with a strategy, only with the bare model {_bare_name(content)!r}",
                key,
                "unsupported_parameter",
            )
    if content.get("add_generation_prompt") is False:
        raise RequestError("a strategy always generates a reply", "add_generation_prompt", "unsupported_parameter")
    options = _options(content.get("localemp"))
    if other := sorted(options.model_fields_set - {"sampling"}) if not names else []:
        raise RequestError(f"'{other[0]}' is for a strategy, not for the bare model", f"localemp.{other[0]}")
    if names and "sampling" in options.model_fields_set:
        message = "'sampling' is for the bare model; a strategy has these sampling parameters anyway"
        raise RequestError(message, "localemp.sampling")
    for option in part_options():
        parts = parts_with(option)
        if option.name in options.of_parts and not set(parts) & set(names):
            message = f"{option.name!r} is for {' and '.join(parts)}; the strategy is {strategy}"
            raise RequestError(message, f"localemp.{option.name}")
    stream, stream_options = content.get("stream"), content.get("stream_options")
    if stream not in (None, True, False):
        raise RequestError("'stream' must be true or false", "stream", "invalid_type")
    if stream_options is not None and not isinstance(stream_options, dict):
        raise RequestError("'stream_options' must be an object", "stream_options", "invalid_type")
    if stream_options is not None and not stream:
        raise RequestError("'stream_options' needs 'stream': true", "stream_options")
    _check_sampling(content)
    instruction, dialogue = _dialogue(content.get("messages"), options)
    ours = ("model", "messages", "localemp", *_NOT_WITH_STRATEGIES, *_ONLY_WITH_TOOLS)
    rest = {key: value for key, value in content.items() if key not in ours}
    usage = bool((stream_options or {}).get("include_usage"))
    return ChatRequest(adapter, names, dialogue, instruction, options, rest, bool(stream), usage)


def _without_thinking(content: Mapping[str, Any], thinking: ThinkingMode) -> dict[str, Any]:
    """Return a body without the fields that turn thinking on or off, if they say what the server does anyway.

    Raises:
        RequestError: They say something else: all stages and the room for the reply depend on it.
    """
    kept, known, state = dict(content), thinking.template_options, content.get(_SWITCH)
    given = content.get("chat_template_kwargs")
    if isinstance(given, dict) and all(name in known and known[name] == value for name, value in given.items()):
        del kept["chat_template_kwargs"]
    if isinstance(state, bool) and thinking.thinks is not None:
        if state != thinking.thinks:
            does = "thinks" if thinking.thinks else "does not think"
            message = f"the model {does} before it replies here; the server's operator decides that (--thinking)"
            raise RequestError(message, _SWITCH, "unsupported_value")
        del kept[_SWITCH]
    return kept


def _check_sampling(content: Mapping[str, Any]) -> None:
    try:
        SamplingFields.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        what = _MESSAGES.get(key, f": {first['msg']}")
        raise RequestError(f"{key!r}{what}", key, "invalid_value") from error


# For a union pydantic reports the error of its first type.
_MESSAGES = {"stop": " must be a text, or a list of texts"}


def _options(value: Any) -> RequestOptions:
    if value is None:
        return RequestOptions()
    try:
        return _request_form().model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = one_line(".".join(["localemp", *map(str, first["loc"])]))
        raise RequestError(f"{key}: {first['msg']}", key, "invalid_value") from error


def _dialogue(messages: Any, options: RequestOptions) -> tuple[str, Dialogue]:
    """Return the system messages as one text, and the others as a dialogue."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' must be a list with at least one message", "messages", "invalid_type")
    if len(messages) > MOST_MESSAGES:
        raise RequestError(f"'messages' has {len(messages):,} messages; the limit is {MOST_MESSAGES:,}", "messages")
    texts = [_message(message, f"messages.{number}") for number, message in enumerate(messages)]
    instruction = "\n\n".join(text for role, text in texts if role == "system" and text.strip())
    # Clients send back an empty answer that their user stopped before its first word.
    spoken = [(role, text) for role, text in texts if role != "system" and (role != "assistant" or text.strip())]
    # Several messages of one side in a row are one turn.
    turns = [(role, "\n".join(text for _, text in some)) for role, some in groupby(spoken, key=lambda one: one[0])]
    if not turns or turns[-1][0] != "user":
        raise RequestError("the last message must be the user's, which a strategy answers", "messages")
    if turns[0][0] != "user":
        raise RequestError(
            "the first message after the system's must be the user's: the speaker begins the dialogue", "messages"
        )
    dialogue = Dialogue("request", tuple(text for _, text in turns), options.emotion, options.situation)
    return instruction, dialogue


def _message(message: Any, where: str) -> tuple[Role, str]:
    if not isinstance(message, dict):
        raise RequestError(f"{where} must be an object, not {kind_of(message)}", where, "invalid_type")
    name = message.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(
            f"{where}.role is {one_line(json.dumps(name))}; a strategy takes system, developer, user and assistant",
            f"{where}.role",
            "invalid_value",
        )
    text = _text(message.get("content"), f"{where}.content", role)
    if role == "user" and not text.strip():
        raise RequestError(f"{where}.content is empty", f"{where}.content", "invalid_value")
    return role, text


# The text of each is under the name of its type.
_TEXT_PARTS = ("text", "refusal")
_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def _text(content: Any, where: str, role: Role) -> str:
    """Return a message's text; in assistant messages the client may have kept more than the text."""
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(kind) if isinstance(part, dict) and kind in _TEXT_PARTS else part
        if isinstance(text, str):
            texts.append(text)
        elif role == "user" or not (text is None or (isinstance(text, dict) and role == "assistant")):
            raise RequestError(f"{where} must be text, or a list of text parts", where, "invalid_type")
    whole = well_formed("\n".join(texts))
    return split_thinking(whole).text if role == "assistant" else whole


def _bare_name(content: Mapping[str, Any]) -> str:
    return one_line(str(content.get("model")).rpartition(":")[0])
