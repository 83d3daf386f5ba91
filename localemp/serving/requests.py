"""What a client asks of a strategy: an OpenAI chat request, checked, split into dialogue, instruction and the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.dialogue import Dialogue, Role
from localemp.errors import LocalempError
from localemp.strategies.registry import parse_strategy


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
        super().__init__(message)
        self.status, self.headers = status, headers
        self.content = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Options(BaseModel):
    """The request's key `localemp`.

    Attributes:
        shots: Exemplars of few-shot and similar.
        variant: Prompt texts.
        emotion, situation: Given, so that two-stage need not infer them.
        trace: Whether the answer tells what happened inside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    shots: Annotated[int, Field(ge=1, le=100)] | None = None
    variant: Literal["paper", "released"] | None = None
    emotion: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    situation: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    trace: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """What of the stage-1 question is answered already."""
        return tuple(name for name in ("emotion", "situation") if getattr(self, name) is not None)


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
    options: Options
    rest: Mapping[str, Any]
    stream: bool
    usage: bool


# Each needs messages that a strategy writes itself, or an answer that is no reply of a listener.
_NOT_WITH_STRATEGIES = (
    "tools", "functions", "function_call", "audio", "prediction", "documents", "chat_template", "chat_template_kwargs",
    "continue_final_message", "echo", "prompt_logprobs", "use_beam_search",
)  # fmt: skip


def read_json(body: bytes) -> dict[str, Any]:
    """The body as an object.

    Raises:
        RequestError: It is no JSON, or no object.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {_short(str(error))}", code="invalid_json") from error
    if not isinstance(content, dict):
        raise RequestError(f"the body is to be a JSON object, not {_type(content)}", code="invalid_type")
    return content


def read_request(content: Mapping[str, Any], strategy: str) -> ChatRequest:
    """Check a request for a strategy.

    Args:
        content: The decoded body.
        strategy: What the model's name has after the colon.

    Raises:
        RequestError: It cannot be answered; says which key is wrong and why.
    """
    try:
        names = parse_strategy(strategy)
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
    if options.given and "two-stage" not in names:
        raise RequestError(
            f"{options.given[0]!r} is for two-stage, and the strategy is {strategy}", f"localemp.{options.given[0]}"
        )
    if options.shots is not None and not {"few-shot", "similar"} & set(names):
        raise RequestError(f"'shots' is for few-shot and similar, and the strategy is {strategy}", "localemp.shots")
    stream, stream_options = content.get("stream"), content.get("stream_options")
    if stream not in (None, True, False):
        raise RequestError("'stream' is to be true or false", "stream", "invalid_type")
    if stream_options is not None and not isinstance(stream_options, dict):
        raise RequestError("'stream_options' is to be an object", "stream_options", "invalid_type")
    if stream_options is not None and not stream:
        raise RequestError("'stream_options' is for streams only", "stream_options")
    stop = content.get("stop")
    if not (
        stop is None or isinstance(stop, str) or (isinstance(stop, list) and all(isinstance(s, str) for s in stop))
    ):
        raise RequestError("'stop' is to be a text, or a list of texts", "stop", "invalid_type")
    instruction, dialogue = _talk(content.get("messages"), options)
    rest = {key: value for key, value in content.items() if key not in ("model", "messages", "localemp")}
    usage = bool((stream_options or {}).get("include_usage"))
    return ChatRequest(names, dialogue, instruction, options, rest, bool(stream), usage)


def _options(value: Any) -> Options:
    if value is None:
        return Options()
    try:
        return Options.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["localemp", *map(str, first["loc"])])
        raise RequestError(f"{key}: {first['msg']}", key, "invalid_value") from error


def _talk(messages: Any, options: Options) -> tuple[str, Dialogue]:
    """The system messages as one text, and the dialogue of the others."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' is to be a list with at least one message", "messages", "invalid_type")
    told = [_message(message, f"messages.{number}") for number, message in enumerate(messages)]
    instruction = "\n\n".join(text for role, text in told if role == "system" and text.strip())
    # What one side says in several messages is one turn.
    turns = [
        (role, "\n".join(text for _, text in some))
        for role, some in groupby((one for one in told if one[0] != "system"), key=lambda one: one[0])
    ]
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
        raise RequestError(f"{where} is to be an object, not {_type(message)}", where, "invalid_type")
    name = message.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise RequestError(
            f"{where}.role is {_short(json.dumps(name))}; a strategy knows system, developer, user and assistant",
            f"{where}.role",
            "invalid_value",
        )
    text = _text(message.get("content"), f"{where}.content")
    if role != "system" and not text.strip():
        raise RequestError(f"{where}.content is empty", f"{where}.content", "invalid_value")
    return role, text


_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def _text(content: Any, where: str) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = []
    for part in parts:
        if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise RequestError(f"{where} is to be text, or a list of text parts", where, "invalid_type")
        texts.append(part["text"])
    text = "\n".join(texts)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{where} is no valid Unicode text", where, "invalid_value") from error
    return text


def _bare_name(content: Mapping[str, Any]) -> str:
    return str(content.get("model")).partition(":")[0]


def _type(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
