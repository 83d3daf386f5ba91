"""The engines by name. A model's profile chooses one: `engine = "vllm"`.

A new engine is one file with a subclass of `Engine`, and one call of `register_engine`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.engines.base import Engine
from localemp.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from localemp.engines.tokens import PromptTokenizer
    from localemp.models.profiles import Profile
    from localemp.models.weights import Weights

# Engine arguments of vLLM that change how much fits and how fast it goes, but no reply.
CAPACITY_ARGS = frozenset(
    [
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "enable_prefix_caching",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What an engine is made from.

    Attributes:
        profile: The model.
        base_url: The server that a person names; None leaves it to the profile.
        engine_args: Arguments that a person passes on to the engine.
        concurrency: Dialogues in flight at once; None leaves it to the engine.
        seed: Of sampling.
        script: A file of answers, for the scripted engine.
        log: Where the engine's own messages go; None leaves it to the engine.
        weights: Finds or fetches the model's weights, and checks them.
        tokenizer: Loads the model's tokenizer; it needs the weights.
        context_length: Tokens of prompt and reply together that the engine has to hold.
    """

    profile: "Profile"
    weights: Callable[[], "Weights"]
    tokenizer: Callable[[], "PromptTokenizer"]
    context_length: Callable[[], int]
    base_url: str | None = None
    engine_args: Mapping[str, Any]
    concurrency: int | None = None
    seed: int = 0
    script: Path | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """A named engine.

    Attributes:
        make: Builds the engine, not started yet.
        settings: What the manifest records of it besides its name: everything that can change a reply.
    """

    make: Callable[[EngineContext], Engine]
    settings: Callable[[EngineContext], Mapping[str, Any]] = lambda _: {}


ENGINES: dict[str, EngineEntry] = {}


def register_engine(
    name: str,
    make: Callable[[EngineContext], Engine],
    settings: Callable[[EngineContext], Mapping[str, Any]] = lambda _: {},
) -> None:
    """Add an engine; profiles choose it with `engine = "NAME"`.

    A profile that names weights (`hub`, `package` or `path`) gets its prompts measured with the model's tokenizer; one
    that names none is taken to answer somewhere else.

    Args:
        name: What profiles call it.
        make: Builds the engine from its context, not started yet.
        settings: What the manifest records besides the name: everything that can change a reply.

    Raises:
        OptionError: There is an engine of this name already.
    """
    if name in ENGINES:
        raise OptionError(f"there is an engine {name!r} already")
    ENGINES[name] = EngineEntry(make, settings)


def engine_entry(name: str) -> EngineEntry:
    """Return the engine of this name.

    Raises:
        UnknownNameError: There is none; the known ones are listed.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    return ENGINES[name]


def _vllm(context: EngineContext) -> Engine:
    from localemp.engines.vllm import VLLMEngine

    return VLLMEngine(
        context.tokenizer(),
        context.context_length(),
        context.engine_args,
        context.seed,
        context.concurrency,
        context.log,
    )


def _vllm_settings(context: EngineContext) -> Mapping[str, Any]:
    weights = context.weights()
    return {
        "weights_origin": weights.origin,
        "weights_revision": weights.revision,
        "weights_sha256": weights.digest,
        "chat_template_kwargs": context.profile.chat_template_kwargs,
        "engine_args": {name: value for name, value in context.engine_args.items() if name not in CAPACITY_ARGS},
    }


def _openai(context: EngineContext) -> Engine:
    from localemp.engines.openai.engine import OpenAIEngine

    profile = context.profile
    if context.engine_args:
        raise OptionError("--engine-arg is for vLLM in this process; a server has its own settings")
    return OpenAIEngine(
        profile.model or profile.name,
        profile.base_url if context.base_url is None else context.base_url,
        api=profile.api,
        concurrency=context.concurrency or OpenAIEngine.concurrency,
        context_length=profile.context_length,
        price=profile.price,
        extra_body=profile.request,
    )


def _openai_settings(context: EngineContext) -> Mapping[str, Any]:
    from localemp.engines.openai.target import shown_url

    profile = context.profile
    server = profile.base_url if context.base_url is None else context.base_url
    return {
        "served_model": profile.model,
        "base_url": None if server is None else shown_url(server),
        "api": profile.api,
    }


def _scripted(context: EngineContext) -> Engine:
    from localemp.engines.scripted import ScriptedEngine

    if context.script is None:
        raise OptionError("the scripted engine needs a file of answers", "name it with --script")
    return ScriptedEngine.from_file(context.script)


register_engine("vllm", _vllm, _vllm_settings)
register_engine("openai", _openai, _openai_settings)
register_engine("scripted", _scripted)
