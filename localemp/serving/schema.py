"""What a client asks of a strategy: an OpenAI chat request, checked, split into dialogue, instruction and the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError, create_model

from localemp.dialogue import Dialogue, Role
from localemp.errors import LocalempError
from localemp.protocol.thinking import split_thinking
from localemp.strategies.registry import parse_strategy, part_options, parts_with
from localemp.strategies.two_stage import GIVEN, GIVEN_FACTS
from localemp.utils.json_reader import kind_of
from localemp.utils.option import Option
from localemp.utils.text import one_line, well_formed

MOST_MESSAGES = 4_000
"""Messages of one dialogue."""

LONGEST_MESSAGE = 600
"""Characters of an error; names in it have at most 200."""


class RequestError(Exception):
    """A request that cannot be answered, as OpenAI's API says it.

    Attributes:
        status: Of HTTP.
        content: The body: `{"error": {"message", "type", "param", "code"}}`.
        headers: Beside it, such as Retry-After.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        # What is named in it is the client's, and may be long.
        message, param = one_line(message, LONGEST_MESSAGE), param and one_line(param)
        super().__init__(message)
        self.status, self.headers = status, headers
        self.content = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class RequestOptions(BaseModel):
    """The request's key `localemp`; `_request_form` adds what parts of strategies may be told.

    Attributes:
        variant: Prompt texts.
        emotion, situation: Given, so that two-stage need not infer them.
        trace: Whether the answer tells what happened inside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    variant: Literal["paper", "released"] | None = None
    emotion: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    situation: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    trace: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """What of the stage-1 question is answered already."""
        return tuple(name for name in GIVEN if getattr(self, name) is not None)

    @property
    def of_parts(self) -> dict[str, Any]:
        """What parts are told, by the names of their options."""
        told = {name: getattr(self, name) for name in self.model_fields_set - RequestOptions.model_fields.keys()}
        told = {name: value for name, value in sorted(told.items()) if value is not None}
        return told | ({GIVEN_FACTS.name: self.given} if self.given else {})


def _request_form() -> type[RequestOptions]:
    """The form of the key `localemp`, with the options of all parts that requests may set."""
    return _form_with(tuple(option for option in part_options() if option.in_requests is not None))


@cache
def _form_with(options: tuple[Option, ...]) -> type[RequestOptions]:
    fields: dict[str, Any] = {option.name: (option.in_requests | None, None) for option in options}
    return create_model("RequestOptions", __base__=RequestOptions, **fields)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request.

    Attributes:
        strategy: Parts of the strategy, in their canonical order.
        dialogue: The messages of user and assistant.
        instruction: The system messages.
        options: The key `localemp`.
        rest: The body without model, messages and `localemp`: goes to the last stage.
        stream: Whether the answer is streamed.
        usage: Whether the stream is to end with the usage.
    """

    strategy: tuple[str, ...]
    dialogue: Dialogue
    instruction: str
    options: RequestOptions
    rest: Mapping[str, Any]
    stream: bool
    usage: bool


# Each needs messages that a strategy writes itself, or an answer that is no reply of a listener.
_NOT_WITH_STRATEGIES = (
    "tools", "functions", "function_call", "audio", "prediction", "documents", "chat_template", "chat_template_kwargs",
    "continue_final_message", "echo", "prompt_logprobs", "use_beam_search",
)  # fmt: skip
# What clients send along with tools even where they have none; some servers refuse it without them.
_ONLY_WITH_TOOLS = ("tool_choice", "parallel_tool_calls")

_Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]
_Tokens = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
_Penalty = Annotated[float, Field(ge=-2, le=2, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class SamplingFields(BaseModel):
    """Fields of the last stage's sampling, checked before an earlier stage costs anything: OpenAI's, and vLLM's own."""

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


def read_request(content: Mapping[str, Any], strategy: str) -> ChatRequest:
    """Check a request for a strategy.

    Args:
        content: The decoded body.
        strategy: What the model's name has after the colon.

    Raises:
        RequestError: It cannot be answered; says which key is wrong and why.
    """
    try:
        names = parse_strategy(one_line(strategy))
    except LocalempError as error:
        raise RequestError(f"{error.message}; {error.hint}", "model", "model_not_found", 404) from error
    for key in _NOT_WITH_STRATEGIES:
        if content.get(key) not in (None, False, "none", [], {}):
            raise RequestError(
                f"{key!r} cannot be used with a strategy; the model {_bare_name(content)!r} alone takes it",
                key,
                "unsupported_parameter",
            )
    if content.get("add_generation_prompt") is False:
        raise RequestError("a strategy always asks for a reply", "add_generation_prompt", "unsupported_parameter")
    options = _options(content.get("localemp"))
    for option in part_options():
        heeding = parts_with(option)
        if option.name in options.of_parts and not set(heeding) & set(names):
            key = options.given[0] if option is GIVEN_FACTS else option.name
            raise RequestError(
                f"{key!r} is for {' and '.join(heeding)}, and the strategy is {strategy}", f"localemp.{key}"
            )
    stream, stream_options = content.get("stream"), content.get("stream_options")
    if stream not in (None, True, False):
        raise RequestError("'stream' is to be true or false", "stream", "invalid_type")
    if stream_options is not None and not isinstance(stream_options, dict):
        raise RequestError("'stream_options' is to be an object", "stream_options", "invalid_type")
    if stream_options is not None and not stream:
        raise RequestError("'stream_options' is for streams only", "stream_options")
    _check_sampling(content)
    instruction, dialogue = _talk(content.get("messages"), options)
    ours = ("model", "messages", "localemp", *_NOT_WITH_STRATEGIES, *_ONLY_WITH_TOOLS)
    rest = {key: value for key, value in content.items() if key not in ours}
    usage = bool((stream_options or {}).get("include_usage"))
    return ChatRequest(names, dialogue, instruction, options, rest, bool(stream), usage)


def _check_sampling(content: Mapping[str, Any]) -> None:
    try:
        SamplingFields.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        said = _IN_WORDS.get(key, f": {first['msg']}")
        raise RequestError(f"{key!r}{said}", key, "invalid_value") from error


# Of a choice of types pydantic tells what is wrong with the first.
_IN_WORDS = {"stop": " is to be a text, or a list of texts"}


def _options(value: Any) -> RequestOptions:
    if value is None:
        return RequestOptions()
    try:
        return _request_form().model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = one_line(".".join(["localemp", *map(str, first["loc"])]))
        raise RequestError(f"{key}: {first['msg']}", key, "invalid_value") from error


def _talk(messages: Any, options: RequestOptions) -> tuple[str, Dialogue]:
    """The system messages as one text, and the dialogue of the others."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' is to be a list with at least one message", "messages", "invalid_type")
    if len(messages) > MOST_MESSAGES:
        raise RequestError(f"'messages' has {len(messages):,} messages, more than {MOST_MESSAGES:,}", "messages")
    told = [_message(message, f"messages.{number}") for number, message in enumerate(messages)]
    instruction = "\n\n".join(text for role, text in told if role == "system" and text.strip())
    # A client sends back the answer that its user stopped before a word of it came. It says nothing.
    spoken = [(role, text) for role, text in told if role != "system" and (role != "assistant" or text.strip())]
    # What one side says in several messages is one turn.
    turns = [(role, "\n".join(text for _, text in some)) for role, some in groupby(spoken, key=lambda one: one[0])]
    if not turns or turns[-1][0] != "user":
        raise RequestError("the last message must be the user's: a strategy answers it", "messages")
    if turns[0][0] != "user":
        raise RequestError(
            "the first message beside the system's must be the user's: the dialogue begins with the speaker", "messages"
        )
    dialogue = Dialogue("request", tuple(text for _, text in turns), options.emotion, options.situation)
    return instruction, dialogue


def _message(message: Any, where: str) -> tuple[Role, str]:
    if not isinstance(message, dict):
        raise RequestError(f"{where} is to be an object, not {kind_of(message)}", where, "invalid_type")
    name = message.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(
            f"{where}.role is {one_line(json.dumps(name))}; a strategy knows system, developer, user and assistant",
            f"{where}.role",
            "invalid_value",
        )
    text = _text(message.get("content"), f"{where}.content", role)
    if role == "user" and not text.strip():
        raise RequestError(f"{where}.content is empty", f"{where}.content", "invalid_value")
    return role, text


# Each has its text under the name of its kind.
_TEXT_PARTS = ("text", "refusal")
_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def _text(content: Any, where: str, role: Role) -> str:
    """What a message says; of the assistant's own messages the client may have kept more than their text."""
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(kind) if isinstance(part, dict) and kind in _TEXT_PARTS else part
        if isinstance(text, str):
            texts.append(text)
        elif role == "user" or not (text is None or (isinstance(text, dict) and role == "assistant")):
            raise RequestError(f"{where} is to be text, or a list of text parts", where, "invalid_type")
    said = well_formed("\n".join(texts))
    return split_thinking(said).text if role == "assistant" else said


def _bare_name(content: Mapping[str, Any]) -> str:
    return one_line(str(content.get("model")).partition(":")[0])
