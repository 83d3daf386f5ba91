"""Servers as their documentation and their users' reports describe them: what each does otherwise than OpenAI's.

A hosted one is reached by its own name: the fake stands in for the whole network, as an HTTP proxy.
"""

import json
from typing import Any

from fake_server import REPLY, Answer, FakeServer, Request, completion, error

KEY = "right-key-0123"


def tokens_in(request: Request) -> int:
    """About a token for four characters."""
    return sum(len(message["content"]) for message in request.body["messages"]) // 4


def listed(*models: dict[str, Any]) -> Answer:
    return Answer(body={"object": "list", "data": list(models)})


class Dialect(FakeServer):
    """A server with its own way of answering.

    Attributes:
        host: Its name on the network; empty for a program on this machine.
        path: What its base URL has after the host.
        model: A model that it has.
        reply: The text of its answers.
    """

    host, path, model, reply = "", "/v1", "tiny", REPLY

    @property
    def proxy(self) -> dict[str, str]:
        """The environment in which this is the whole network."""
        return {"http_proxy": self.url.removesuffix("/v1"), "no_proxy": "127.0.0.1"}

    @property
    def base_url(self) -> str:
        return f"http://{self.host}{self.path}" if self.host else self.url

    def answer(self, request: Request) -> Answer:
        if request.method == "GET":
            self.listings.append(request)
            return self.get(request)
        self.requests.append(request)
        if self.answers:
            return self.answers.pop(0)
        return self.refusal(request) or self.post(request)

    def get(self, request: Request) -> Answer:
        return listed({"id": self.model, "object": "model"})

    def refusal(self, request: Request) -> Answer | None:
        """The error that a request gets, if any."""
        return None

    def post(self, request: Request) -> Answer:
        return Answer(body=self.completion(request))

    def completion(self, request: Request, **changes: Any) -> dict[str, Any]:
        prompt, reply = tokens_in(request), len(self.reply) // 4
        usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
        changes = {"message": {"role": "assistant", "content": self.reply}, "usage": usage, **changes}
        return completion(request.path, **changes)


class Hosted(Dialect):
    """A service with keys, in the usual header."""

    def refusal(self, request: Request) -> Answer | None:
        return None if request.headers.get("authorization") == f"Bearer {KEY}" else self.wrong_key()

    def wrong_key(self) -> Answer:
        return error(401, "Incorrect API key provided", code="invalid_api_key")


class Azure(Hosted):
    """Its v1 API: the key in a header of its own, deployments as models."""

    host, path, model = "mine.openai.azure.com", "/openai/v1", "my-deployment"

    def get(self, request: Request) -> Answer:
        return self.refusal(request) or listed({"id": "gpt-4o-2024-11-20"}, {"id": "gpt-4.1-2025-04-14"})

    def refusal(self, request: Request) -> Answer | None:
        if request.headers.get("api-key") == KEY and "authorization" not in request.headers:
            return None
        said = "Access denied due to invalid subscription key or wrong API endpoint."
        return Answer(401, {"error": {"code": "401", "message": said}})

    def completion(self, request: Request, **changes: Any) -> dict[str, Any]:
        safe = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
        body = super().completion(request, content_filter_results=safe, **changes)
        return {**body, "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe}]}


class OldAzure(Azure):
    """Its dated API: the deployment in the path, the version in the query of every request, no list of models."""

    path = "/openai/deployments/my-deployment?api-version=2024-10-21"

    def get(self, request: Request) -> Answer:
        return Answer(404, {"error": {"code": "404", "message": "Resource not found"}})

    def post(self, request: Request) -> Answer:
        path = "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
        right = request.path == f"http://{self.host}{path}"
        return super().post(request) if right else self.get(request)


class OpenRouter(Hosted):
    """It says what it charges, and wraps the providers' errors."""

    host, path, model = "openrouter.ai", "/api/v1", "anthropic/claude-sonnet-4.6"

    def get(self, request: Request) -> Answer:
        many = [{"id": f"vendor/model-{n}", "context_length": 8192} for n in range(300)]
        return listed(*many, {"id": self.model, "context_length": 1_000_000})

    def wrong_key(self) -> Answer:
        return Answer(401, {"error": {"message": "No auth credentials found", "code": 401}})

    def completion(self, request: Request, **changes: Any) -> dict[str, Any]:
        body = super().completion(request, native_finish_reason="end_turn", **changes)
        body["usage"] |= {"cost": 0.00125, "cost_details": {"upstream_inference_cost": None}, "is_byok": False}
        return {**body, "provider": "Anthropic"}


class Anthropic(Hosted):
    """Its endpoint for OpenAI's clients, with a model that takes temperature or top_p, not both."""

    host, model = "api.anthropic.com", "claude-haiku-4-5"

    def get(self, request: Request) -> Answer:
        wrong = {"type": "authentication_error", "message": "x-api-key header is required"}
        return Answer(401, {"type": "error", "error": wrong})

    def wrong_key(self) -> Answer:
        return error(401, "invalid x-api-key", type="authentication_error")

    def refusal(self, request: Request) -> Answer | None:
        wrong = super().refusal(request)
        if wrong is None and {"temperature", "top_p"} <= request.body.keys():
            said = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
            return error(400, said, type="invalid_request_error")
        if wrong is None and request.body.get("n", 1) != 1:
            return error(400, "n must be 1", type="invalid_request_error")
        return wrong


class NewClaude(Anthropic):
    """A model that takes neither."""

    model = "claude-opus-4-8"

    def refusal(self, request: Request) -> Answer | None:
        for name in ("temperature", "top_p"):
            if name in request.body:
                return error(400, f"`{name}` is deprecated for this model.", type="invalid_request_error")
        return super().refusal(request)


class Gemini(Hosted):
    """Its endpoint for OpenAI's clients: unknown fields are errors, errors are lists, thinking is in the total only."""

    host, path, model = "generativelanguage.googleapis.com", "/v1beta/openai", "gemini-2.5-flash"
    unknown = ("seed", "repetition_penalty", "thinking_token_budget")

    def get(self, request: Request) -> Answer:
        return listed({"id": f"models/{self.model}", "owned_by": "google"}, {"id": "models/gemini-2.5-pro"})

    def wrong_key(self) -> Answer:
        detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        return self.fails(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", detail)

    def fails(self, status: int, said: str, name: str, *details: dict[str, Any]) -> Answer:
        body = {"error": {"code": status, "message": said, "status": name, "details": list(details)}}
        return Answer(status, [body])

    def refusal(self, request: Request) -> Answer | None:
        for name in self.unknown:
            if name in request.body:
                said = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                return self.fails(400, said, "INVALID_ARGUMENT")
        return super().refusal(request)

    def completion(self, request: Request, **changes: Any) -> dict[str, Any]:
        body = super().completion(request, **changes)
        body["usage"]["total_tokens"] += 30
        return body


class Ollama(Dialect):
    """It cuts what is longer than its context, and counts what is left.

    Attributes:
        context: The context that it was started with.
        halves: Whether it keeps half a context of a prompt that is too long, as newer versions do.
        loaded: Whether the model is in memory.
    """

    host, model = "", "qwen3:4b"

    def __init__(self, context: int = 4096, halves: bool = True) -> None:
        super().__init__()
        self.context, self.halves, self.loaded = context, halves, False

    def get(self, request: Request) -> Answer:
        if request.path == "/v1/models":
            return listed({"id": self.model, "object": "model", "created": 1, "owned_by": "library"})
        running = {"name": self.model, "model": self.model, "size_vram": 0, "context_length": self.context}
        return Answer(body={"models": [running] if self.loaded else []})

    def post(self, request: Request) -> Answer:
        self.loaded = True
        if request.path == "/api/generate":
            return Answer(body={"model": self.model, "response": "", "done": True, "done_reason": "load"})
        messages = request.body["messages"]
        kept = [*messages]
        while self._length(kept) > self.context and any(each["role"] != "system" for each in kept[:-1]):
            kept.remove(next(each for each in kept if each["role"] != "system"))
        prompt = self._length(kept)
        if prompt > self.context:
            prompt = self.context // 2 + 2 if self.halves else self.context
        usage = {"prompt_tokens": prompt, "completion_tokens": 4, "total_tokens": prompt + 4}
        message = {"role": "assistant", "content": REPLY, "reasoning": "They lost something."}
        return Answer(body=completion(message=message, usage=usage) | {"system_fingerprint": "fp_ollama"})

    def _length(self, messages: list[dict[str, str]]) -> int:
        return sum(len(message["content"]) // 4 + 5 for message in messages)


class LlamaCpp(Dialect):
    """The answers are as recorded from llama-server b10434: 503 while it loads, `meta.n_ctx`, tokens of one choice."""

    def __init__(self, context: int = 2048, loading: int = 2) -> None:
        super().__init__()
        self.context, self.loading = context, loading

    def get(self, request: Request) -> Answer:
        if self.loading:
            self.loading -= 1
            return error(503, "Loading model", type="unavailable_error", code=503)
        meta = {"n_vocab": 49152, "n_ctx": self.context, "n_ctx_train": 8192}
        return listed({"id": self.model, "object": "model", "owned_by": "llamacpp", "meta": meta})

    def refusal(self, request: Request) -> Answer | None:
        if self.loading:
            return self.get(request)
        if (length := tokens_in(request)) <= self.context:
            return None
        too_long = f"request ({length} tokens) exceeds the available context size ({self.context} tokens)"
        return error(
            400, f"{too_long}, try increasing it", code=400, type="exceed_context_size_error", n_prompt_tokens=length
        )

    def post(self, request: Request) -> Answer:
        body = self.completion(request)
        body["choices"] = [{**body["choices"][0], "index": n} for n in range(request.body.get("n", 1))]
        return Answer(body=body | {"timings": {"predicted_per_second": 85.4}})


class LMStudio(Dialect):
    """It lists what is on the disk, loads on demand, and words its errors in its own way."""

    def get(self, request: Request) -> Answer:
        return listed(*({"id": name, "owned_by": "organization_owner"} for name in (self.model, "text-embedding")))

    def refusal(self, request: Request) -> Answer | None:
        if tokens_in(request) <= 4096:
            return None
        said = (
            f"Trying to keep the first {tokens_in(request)} tokens when context the overflows. However, the model is "
            "loaded with context length of only 4096 tokens, which is not enough. Try to load the model with a larger "
            "context length, or provide a shorter input"
        )
        return Answer(400, {"error": said})


class SGLang(Dialect):
    """Errors without a wrapping, `max_model_len` in the list, no details of usage."""

    def get(self, request: Request) -> Answer:
        return listed({"id": self.model, "owned_by": "sglang", "root": self.model, "max_model_len": 4096})

    def refusal(self, request: Request) -> Answer | None:
        if (length := tokens_in(request)) <= 4096:
            return None
        said = f"The input ({length} tokens) is longer than the model's context length (4096 tokens)."
        return Answer(400, {"object": "error", "message": said, "type": "BadRequestError", "param": None, "code": 400})

    def completion(self, request: Request, **changes: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.reply, "reasoning_content": None, "tool_calls": None}
        body = super().completion(request, message=message, logprobs=None, matched_stop=2, **changes)
        body["usage"]["prompt_tokens_details"] = None
        return body


class TensorRT(Dialect):
    """trtllm-serve: fields that it does not know are errors, as pydantic words them."""

    unknown = ("thinking_token_budget", "verbosity")

    def refusal(self, request: Request) -> Answer | None:
        for name in self.unknown:
            if name in request.body:
                wrong = {"type": "extra_forbidden", "loc": ("body", name), "msg": "Extra inputs are not permitted"}
                return self._bad(str([wrong]))
        if (length := tokens_in(request)) > 4096:
            return self._bad(
                f"The sum of prompt length ({length}.0) and query length (0) should not exceed max_num_tokens (4096)"
            )
        return None

    def _bad(self, said: str) -> Answer:
        body = {"object": "error", "message": said, "type": "BadRequestError", "param": None, "code": 400}
        return Answer(400, json.dumps(body))


HOSTED = (Azure, OldAzure, OpenRouter, Anthropic, NewClaude, Gemini)
LOCAL = (Ollama, LlamaCpp, LMStudio, SGLang, TensorRT)
