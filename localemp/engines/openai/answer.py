"""Reads what an OpenAI-compatible server answers. Servers differ, so nothing is trusted and further fields are fine."""

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from localemp.engines.openai.target import URL_HINT
from localemp.errors import EngineError, FatalEngineError


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; counts are None where the server does not count."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None


class ListedModel(BaseModel):
    """One model that a server lists; vLLM's server also tells its context length."""

    id: str
    max_model_len: int | None = None


def read_answer(data: object, url: str) -> Answer:
    """Read the body of an answer of either API.

    A refusal counts as text, with the finish reason "refusal".

    Args:
        data: The decoded body.
        url: The server, for errors.

    Raises:
        FatalEngineError: The body is something else altogether, such as a web page: this is no such server.
        EngineError: There is no choice, or no text in it.
    """
    try:
        body = _Body.model_validate(data)
    except ValidationError as error:
        raise FatalEngineError(f"{url} gave an answer that is no completion: {_start(data)}", URL_HINT) from error
    if not body.choices:
        raise EngineError(f"{url} gave an answer without choices: {_start(data)}")
    choice, usage = body.choices[0], body.usage or _Usage()
    text, reason = _text(choice, url)
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Answer(text, reason, usage.prompt_tokens, usage.completion_tokens, cached)


def read_models(data: object, url: str) -> list[ListedModel]:
    """Read the body of /models.

    Raises:
        FatalEngineError: It is something else, such as a web page.
    """
    try:
        return _Models.model_validate({"data": data} if isinstance(data, list) else data).data or []
    except ValidationError as error:
        raise FatalEngineError(
            f"{url} answers, but not as an OpenAI-compatible server: {_start(data)}", URL_HINT
        ) from error


class _Models(BaseModel):
    data: list[ListedModel] | None  # Ollama's is null when it has none; some hosts send the bare list


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Body(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None


def _text(choice: _Choice, url: str) -> tuple[str, str]:
    message = choice.message or _Message(content=choice.text)
    reason = choice.finish_reason or "unknown"
    if not message.content and message.refusal:
        return message.refusal, "refusal"
    if not message.content and reason == "length":
        raise EngineError(
            f"{url} gave no text within the length asked for, as a model does that thinks first",
            "give it more room with a larger --max-tokens",
        )
    if message.content is None:
        raise EngineError(f"{url} gave an answer without text (finish reason {reason!r})")
    return message.content, reason


def _start(data: object) -> str:
    line = " ".join(str(data).split())
    return line if len(line) <= 200 else f"{line[:199]}…"
