"""What the service answers to a request for a completion: text, usage, tier, and which parameters it refuses."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hosted.errors import ServiceError, content_filtered, unsupported
from hosted.faults import chance
from hosted.prices import MODELS, Model, Tokens

REFUSAL = "I'm sorry, but I can't help with that."
CREATED = 1_790_000_000
_REPLIES = (
    "I am so sorry to hear that. Do you want to talk about it?",
    "That sounds wonderful! How did you manage it?",
    "Oh no, that must have been a shock. Are you all right now?",
    "I can see why that made you angry. What did you do then?",
    "How exciting! When will you know more?",
)
_CACHEABLE, _STEP = 1024, 128  # tokens: the shortest prompt that is cached, and the steps in which it is
_CHARACTERS = 4  # of a token, as OpenAI's rule of thumb has it
_KNOWN = {
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "n",
    "response_format", "logprobs", "top_logprobs", "service_tier", "reasoning_effort", "verbosity", "metadata", "store",
    "user", "presence_penalty", "frequency_penalty", "logit_bias", "safety_identifier", "prompt_cache_key", "stream",
    "best_of", "echo", "suffix",
}  # fmt: skip
_REASONING = {"none": 0, "minimal": 0, "low": 64, "medium": 256, "high": 1024, "xhigh": 2048, "max": 4096}
_TIERS = {"auto", "default", "flex", "priority", "fast"}


@dataclass(frozen=True)
class Outcome:
    """What a test wants answered to a request; see `Service(rule=...)`.

    Attributes:
        text: The reply; None for one of the service's own.
        refusal: Of the model ("message.refusal"), instead of a text.
        finish_reason: "stop", "length" or "content_filter".
        reasoning: Tokens of thinking, which are billed as completion; None for as many as the effort takes.
        error: Raised instead.
        probabilities: Of the first token, if the request asks for logprobs.
    """

    text: str | None = None
    refusal: str = ""
    finish_reason: str = "stop"
    reasoning: int | None = None
    error: ServiceError | None = None
    probabilities: Mapping[str, float] | None = None


Rule = Callable[[dict[str, Any]], Outcome | str | None]


@dataclass(frozen=True)
class Answered:
    """A completion: its body, its tier and its tokens."""

    value: dict[str, Any]
    model: Model
    tier: str
    tokens: Tokens


@dataclass(frozen=True)
class Shares:
    """Shares of the requests, chosen by seed and body, that end otherwise than with a reply.

    Attributes:
        refused: Answered with a refusal; charged.
        filtered: Answered with finish_reason "content_filter" and no text; charged.
        blocked: Refused with Azure's 400 of the content filter; not charged.
        flex_unavailable: Of attempts in the flex tier: 429; not charged.
        downgraded: Of requests in the priority tier: served and charged as standard.
    """

    refused: float = 0.0
    filtered: float = 0.0
    blocked: float = 0.0
    flex_unavailable: float = 0.0
    downgraded: float = 0.0


def tokens_in(text: str) -> int:
    """The tokens of a text, about."""
    return -(-len(text) // _CHARACTERS)


def prompt_of(body: Mapping[str, Any]) -> str:
    """The whole prompt as one text."""
    if "messages" in body:
        return "".join(f"<{each['role']}>{_content(each.get('content'))}" for each in body["messages"])
    prompt = body.get("prompt", "")
    return prompt if isinstance(prompt, str) else "".join(map(str, prompt))


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


class PromptCache:
    """Which beginnings of prompts were seen, in steps of 128 tokens from 1,024 on."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt come from the cache, and keep it."""
        cached, end = 0, tokens_in(prompt)
        for length in range(_CACHEABLE, end + 1, _STEP):
            mark = hash(prompt[: length * _CHARACTERS])
            if mark in self._seen:
                cached = length
            self._seen.add(mark)
        return cached


class Completions:
    """Answers requests for completions.

    Args:
        rule: What a test wants to be answered; None for the service's own reply.
        shares: Of other ends.
        seed: Of what is chosen by share.
    """

    def __init__(self, rule: Rule | None = None, shares: Shares | None = None, seed: int = 0) -> None:
        self.rule, self.shares, self.seed = rule, shares or Shares(), seed
        self.cache = PromptCache()
        self._number = 0

    def check(self, body: Mapping[str, Any], path: str) -> Model:
        """Return the model of a request, or raise what the service refuses about it."""
        model = MODELS.get(str(body.get("model")))
        if model is None:
            message = f"The model `{body.get('model')}` does not exist or you do not have access to it."
            raise ServiceError(404, message, code="model_not_found")
        _check_form(body, path, model)
        _check_parameters(body, model)
        return model

    def most(self, body: Mapping[str, Any]) -> int:
        """The most tokens that a request may generate; 16 if it does not say, as the estimate of limits takes it."""
        return int(body.get("max_completion_tokens") or body.get("max_tokens") or 16) * int(body.get("n") or 1)

    def tier(self, body: Mapping[str, Any], digest: str) -> str:
        """The tier that a request is served in."""
        asked = body.get("service_tier") or "auto"
        tier = {"auto": "default", "fast": "priority"}.get(asked, asked)
        if tier == "priority" and chance(self.seed, "downgraded", digest) < self.shares.downgraded:
            return "default"
        return str(tier)

    def answer(self, body: dict[str, Any], model: Model, digest: str, tier: str) -> Answered:
        """Answer a request that was checked, in a tier; raise the error that a rule or a share wants."""
        outcome = self._outcome(body, digest)
        if outcome.error is not None:
            raise outcome.error
        prompt, most = prompt_of(body), body.get("max_completion_tokens") or body.get("max_tokens")
        number, whole = int(body.get("n") or 1), tokens_in(prompt) + 3 * len(body.get("messages", ())) + 3
        if whole + int(most or 0) > model.context:
            raise _too_long(whole, int(most or 0), model)
        said, reason = _said(outcome, body, digest), outcome.finish_reason
        reasoning = _reasoning(body, model) if outcome.reasoning is None else outcome.reasoning
        room = None if most is None else int(most)
        if room is not None and reasoning + tokens_in(said) > room:
            reasoning = min(reasoning, room)
            said, reason = said[: (room - reasoning) * _CHARACTERS], "length"
        cached = min(self.cache.tokens(prompt), whole)
        tokens = Tokens(
            prompt=whole,
            cached=cached,
            written=whole - cached if _writes(model) and whole >= _CACHEABLE else 0,
            completion=(tokens_in(said) + reasoning) * number,
            reasoning=reasoning * number,
        )
        self._number += 1
        chat = "messages" in body
        choices = [_choice(place, chat, said, reason, outcome, body) for place in range(number)]
        value = {
            "id": f"chatcmpl-{self._number:09d}",
            "object": "chat.completion" if chat else "text_completion",
            "created": CREATED,
            "model": f"{model.name}-2026-01-01" if model.dated else model.name,
            "choices": choices,
            "usage": _usage(tokens, model),
            "service_tier": "default" if tier == "batch" else tier,
            "system_fingerprint": "fp_fake",
        }
        return Answered(value, model, tier, tokens)

    def _outcome(self, body: dict[str, Any], digest: str) -> Outcome:
        chosen = self.rule(body) if self.rule else None
        if chosen is not None:
            return chosen if isinstance(chosen, Outcome) else Outcome(chosen)
        place, shares = chance(self.seed, "end", digest), self.shares
        if place < shares.blocked:
            return Outcome(error=content_filtered())
        if place < shares.blocked + shares.filtered:
            return Outcome(finish_reason="content_filter")
        if place < shares.blocked + shares.filtered + shares.refused:
            return Outcome(refusal=REFUSAL)
        return Outcome()


def _check_form(body: Mapping[str, Any], path: str, model: Model) -> None:
    chat = path.endswith("/chat/completions")
    if chat and not model.chat:
        message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
        raise ServiceError(404, message, param="model")
    needed = "messages" if chat else "prompt"
    if not body.get(needed):
        raise ServiceError(
            400, f"Missing required parameter: '{needed}'.", code="missing_required_parameter", param=needed
        )
    if unknown := sorted(body.keys() - _KNOWN):
        raise unsupported(unknown[0], f"Unknown parameter: '{unknown[0]}'.", "unknown_parameter")
    if body.get("stream"):
        raise ServiceError(400, "This fake does not stream.", param="stream")


def _check_parameters(body: Mapping[str, Any], model: Model) -> None:
    if model.efforts:
        if "max_tokens" in body:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            )
            raise unsupported("max_tokens", message, "unsupported_parameter")
        reasons = body.get("reasoning_effort", model.efforts[0]) != "none"
        for name in ("temperature", "top_p"):
            if reasons and body.get(name, 1) != 1:
                message = f"Unsupported value: '{name}' does not support {body[name]} with this model."
                raise unsupported(name, message, "unsupported_value")
    for name in ("reasoning_effort", "verbosity"):
        if name in body and not model.efforts:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise unsupported(name, message, "unsupported_parameter")
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in model.efforts:
        message = f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model."
        raise unsupported("reasoning_effort", message, "unsupported_value")
    if body.get("verbosity", "medium") not in ("low", "medium", "high"):
        raise unsupported("verbosity", "Unsupported value: 'verbosity'.", "unsupported_value")
    tier = body.get("service_tier") or "auto"
    if tier not in _TIERS or {"fast": "priority", "auto": "default"}.get(tier, tier) not in model.tiers:
        raise ServiceError(400, f"Invalid service_tier argument: {tier}", param="service_tier")


def _too_long(prompt: int, most: int, model: Model) -> ServiceError:
    message = (
        f"This model's maximum context length is {model.context} tokens. However, you requested {prompt + most} tokens "
        f"({prompt} in the messages, {most} in the completion). Please reduce the length of the messages or completion."
    )
    return ServiceError(400, message, code="context_length_exceeded", param="messages")


def _writes(model: Model) -> bool:
    return model.tiers["default"].write is not None


def _usage(tokens: Tokens, model: Model) -> dict[str, Any]:
    prompt: dict[str, int] = {"cached_tokens": tokens.cached, "audio_tokens": 0}
    if _writes(model):
        prompt["cache_write_tokens"] = tokens.written
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice(
    place: int, chat: bool, said: str, reason: str, outcome: Outcome, body: Mapping[str, Any]
) -> dict[str, Any]:
    if not chat:
        return {"index": place, "text": said, "logprobs": None, "finish_reason": reason}
    refusal = said if outcome.refusal else None
    content = None if refusal is not None or reason == "content_filter" else said
    logprobs = _logprobs(said, outcome.probabilities) if body.get("logprobs") else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal, "annotations": []}
    return {"index": place, "message": message, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(said: str, probabilities: Mapping[str, float] | None) -> dict[str, Any]:
    found = probabilities or {said[:1] or "I": 0.9, "The": 0.05}
    likeliest = [{"token": token, "logprob": math.log(p), "bytes": list(token.encode())} for token, p in found.items()]
    likeliest.sort(key=lambda each: -each["logprob"])  # type: ignore[operator]
    return {"content": [{**likeliest[0], "top_logprobs": likeliest}], "refusal": None}


def _reasoning(body: Mapping[str, Any], model: Model) -> int:
    """Tokens of thinking, by effort."""
    return _REASONING[body.get("reasoning_effort") or model.efforts[0]] if model.efforts else 0


def _said(outcome: Outcome, body: Mapping[str, Any], digest: str) -> str:
    if outcome.refusal or outcome.finish_reason == "content_filter":
        return outcome.refusal
    return _own(body, digest) if outcome.text is None else outcome.text


def _own(body: Mapping[str, Any], digest: str) -> str:
    """The service's own reply: always the same one to the same request."""
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(_example(form["json_schema"]["schema"], digest))
    if form.get("type") == "json_object":
        return "{}"
    return f"{_REPLIES[int(digest[:8], 16) % len(_REPLIES)]} ({digest[:6]})"


def _example(schema: Mapping[str, Any], digest: str) -> Any:
    """A value of a JSON schema."""
    for key in ("enum", "anyOf", "oneOf"):
        if options := schema.get(key):
            chosen = options[int(digest[:8], 16) % len(options)]
            return chosen if key == "enum" else _example(chosen, digest)
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object":
        return {name: _example(inner, digest) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema.get("items", {}), digest)] * int(schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(str(kind), f"text {digest[:4]}")
