"""Keys of a profile that would have no effect, because of the model's kind or engine: they are errors."""

from collections.abc import Iterator, Mapping
from typing import Any

from localemp.models.sampling import ELSEWHERE, SamplingSettings

CHAT_ONLY = (
    "model", "base_url", "api", "system_role", "layout", "chat_template_kwargs", "thinking", "request", "sampling",
    "price", "shut_down", "successor", "takes",
)  # fmt: skip
"""Keys that only chat models have."""

_COMMONSENSE_ONLY = ("query", "decoder_prompt", "relations")
_OF_SERVERS = {
    "base_url": 'a model of engine = "vllm" runs here; give a server with --base-url, or write engine = "openai"',
    "request": "a model that runs here is sent no requests; sampling parameters belong in [sampling], and fields for a "
    'server in a profile with engine = "openai"',
    "price": "a model that runs here costs nothing",
    "takes": "it is about fields of requests, and a model that runs here is sent none",
}
_OF_WEIGHTS = dict.fromkeys(("hub", "package", "path"), "a hosted model has no weights here")
_TEMPLATE = "a server is told its template's arguments as a field of requests: [request.chat_template_kwargs]"


def unused_keys(kind: str, engine: str | None, told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with keys that would have no effect, each as "key: why".

    Args:
        kind: The model's kind.
        engine: Its engine.
        told: The keys that are set, with their values.
    """
    if kind != "chat":
        yield from (f"{name}: only chat models have it" for name in CHAT_ONLY if name in told)
    if kind != "commonsense":
        yield from (f"{name}: only commonsense models have it" for name in _COMMONSENSE_ONLY if name in told)
    if engine == "vllm":
        yield from (f"{name}: {why}" for name, why in _OF_SERVERS.items() if name in told)
    if engine == "openai":
        not_hosted = _OF_WEIGHTS | {"chat_template_kwargs": _TEMPLATE}
        yield from (f"{name}: {why}" for name, why in not_hosted.items() if name in told)
    yield from _in_requests(told.get("request", {}))


def who_has(name: str) -> str:
    """Return for which models a key has an effect."""
    if name in _COMMONSENSE_ONLY:
        return "commonsense"
    if name in _OF_WEIGHTS:
        return "all that run here"
    if name in _OF_SERVERS or name == "model":
        return "hosted chat"
    if name == "chat_template_kwargs":
        return "chat that runs here"
    return "chat" if name in CHAT_ONLY or name in ("engine", "merged") else "all"


def _in_requests(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield sampling parameters among the further fields of requests, where no manifest would record them."""
    for name in request:
        if name in SamplingSettings.model_fields or name in ELSEWHERE:
            yield f"request.{name}: {_instead(name)}"


def _instead(name: str) -> str:
    if name in SamplingSettings.model_fields:
        return "it is a sampling parameter, and belongs in [sampling]"
    return f"it is no further field of requests: {ELSEWHERE[name]}"
