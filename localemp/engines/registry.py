"""Engines by name. A model's profile chooses one: `engine = "vllm"`.

A new engine is one file with a subclass of `Engine`, and one call of `register_engine`.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.engines.base import Engine
from localemp.engines.vllm.versions import require_vllm
from localemp.errors import OptionError, UnknownNameError
from localemp.models.thinking_mode import ThinkingMode
from localemp.sampling import Sampling
from localemp.utils.plugins import as_entry, load_plugins, why_missing

if TYPE_CHECKING:
    from localemp.engines.scripted import ScriptedEngine
    from localemp.engines.tokens import PromptTokenizer
    from localemp.models.adapters import Adapter
    from localemp.models.profiles import Profile
    from localemp.models.weights import Weights

_log = logging.getLogger(__name__)

# vLLM engine arguments that affect memory and speed, but not the replies.
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
        "max_loras",
        "max_cpu_loras",
    ]
)
# Arguments of vLLM that name Python code to run.
_NAMES_CODE = re.compile("trust_remote_code|_cls$|plugin|logits_processors|module_path")


def argument_that_names_code(engine_args: Mapping[str, Any]) -> str | None:
    """Return the name of an engine argument, at any depth, that names code to run; None if none does.

    Plans and manifests are passed on, and nobody expects that one runs code.
    """
    for name, value in engine_args.items():
        if isinstance(value, Mapping):
            if inner := argument_that_names_code(value):
                return inner
        elif value and _NAMES_CODE.search(name):
            return name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """Everything that an engine can be built from.

    Attributes:
        profile: The model's profile.
        base_url: The user's choice of server; None for the profile's.
        engine_args: The user's arguments to the engine.
        concurrency: Dialogues in flight at once; None for the engine's default.
        seed: Seed of sampling.
        script: File of answers for the scripted engine.
        log: File for the engine's output; None for the engine's default.
        lookups_follow: Whether encoder and COMET of this process work while the engine does, and need their memory.
        deterministic: Whether replies must not depend on what else the engine computes; only asked of an engine that is
            registered as able to.
        weights: Finds or fetches the model's weights, and verifies them.
        tokenizer: Loads the model's tokenizer; needs the weights.
        context_length: Context to hold, prompt and reply together, in tokens.
        adapters: LoRA adapters that requests can have.
        thinking: Whether the model thinks before it replies, and how.
        batch: Whether a service is asked through its Batch API.
        request: Fields of requests that the user has chosen, such as the service's tier.
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
    lookups_follow: bool = False
    deterministic: bool = False
    adapters: "Sequence[Adapter]" = ()
    thinking: ThinkingMode = field(default_factory=ThinkingMode)
    batch: bool = False
    request: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """Where an engine may keep what a rerun must find again; None if nothing is kept."""
        return None if self.log is None else self.log.parent

    @property
    def vllm_args(self) -> dict[str, Any]:
        """VLLM's engine arguments: the user's, and those that the model's thinking needs."""
        return {**self.thinking.engine_args, **self.engine_args}


def _further_ones(_: EngineContext, sampling: Sampling) -> Mapping[str, str]:
    """Return the parameters that no engine has to take."""
    return dict.fromkeys(sampling.further, "the model's engine does not say that it takes it")


def _none_of_them(_: EngineContext, __: Sampling) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """A named engine.

    Attributes:
        make: Builds the engine without starting it.
        settings: Returns what the manifest records besides the name: everything that can change a reply.
        deterministic: Whether it heeds `EngineContext.deterministic`.
        adapters: Whether its requests can have an adapter, so that it is an `AdaptableEngine`.
        scores: Whether it has `Engine.score`.
        gives_choices: Returns whether it can give the probabilities of `Sampling.choices`.
        untaken: Returns the sampling parameters that it does not take, of those that are set, each with the reason.
        check_args: Checks engine arguments at once, without starting or importing the engine; raises what is wrong.
        check_process: Checks whether this process can start the engine; raises what is wrong.
    """

    make: Callable[[EngineContext], Engine]
    settings: Callable[[EngineContext], Mapping[str, Any]] = lambda _: {}
    deterministic: bool = False
    adapters: bool = False
    scores: bool = False
    gives_choices: Callable[[EngineContext], bool] = lambda _: False
    untaken: Callable[[EngineContext, Sampling], Mapping[str, str]] = _further_ones
    check_args: Callable[[Mapping[str, Any]], None] = lambda _: None
    check_process: Callable[[], None] = lambda: None


ENGINES: dict[str, EngineEntry] = {}


def register_engine(
    name: str,
    make: Callable[[EngineContext], Engine],
    settings: Callable[[EngineContext], Mapping[str, Any]] = lambda _: {},
    *,
    deterministic: bool = False,
    adapters: bool = False,
    scores: bool = False,
    gives_choices: Callable[[EngineContext], bool] = lambda _: False,
    untaken: Callable[[EngineContext, Sampling], Mapping[str, str]] = _further_ones,
    check_args: Callable[[Mapping[str, Any]], None] = lambda _: None,
    check_process: Callable[[], None] = lambda: None,
) -> None:
    """Register an engine; profiles choose it with `engine = "NAME"`.

    If a profile names weights (`hub`, `package` or `path`), prompts are measured with the model's tokenizer; if not,
    the model is assumed to run on a server.

    Args:
        name: The name that profiles use.
        make: Builds the engine without starting it.
        settings: Returns what the manifest records besides the name: everything that can change a reply.
        deterministic: Whether it heeds `EngineContext.deterministic`.
        adapters: Whether its requests can have an adapter, so that it is an `AdaptableEngine`.
        scores: Whether it has `Engine.score`.
        gives_choices: Returns whether it can give the probabilities of `Sampling.choices`; judges ask for them then.
        untaken: Returns the sampling parameters that it does not take, of those that are set, each with the reason; by
            default all of `Sampling.further`, so that none is ignored.
        check_args: Checks engine arguments at once, without starting or importing the engine; raises what is wrong.
        check_process: Checks whether this process can start the engine; raises what is wrong.

    Raises:
        OptionError: The name is taken.
    """
    _add(
        name,
        EngineEntry(make, settings, deterministic, adapters, scores, gives_choices, untaken, check_args, check_process),
    )


def _add(name: str, entry: EngineEntry) -> None:
    if name in ENGINES:
        raise OptionError(f"the engine {name!r} already exists")
    ENGINES[name] = entry


def engines() -> Mapping[str, EngineEntry]:
    """Return the engines by name, those of plug-ins included."""
    load_plugins("engine", _add_plugin)
    return ENGINES


def engine_entry(name: str) -> EngineEntry:
    """Return the engine of this name.

    Raises:
        UnknownNameError: There is no such engine; lists the known ones.
    """
    known = engines()
    if name not in known:
        raise UnknownNameError("engine", name, known, why=why_missing("engine", name))
    return known[name]


def _add_plugin(name: str, value: object) -> None:
    """Register an engine of a plug-in: an `EngineEntry`, or a class that is made without arguments."""
    _add(name, as_entry("an engine", value, EngineEntry, (Engine,), lambda kind: EngineEntry(lambda _: kind())))


def _vllm(context: EngineContext) -> Engine:
    require_vllm()
    from localemp.engines.vllm.engine import VLLMEngine

    return VLLMEngine(
        context.tokenizer(),
        context.context_length(),
        context.vllm_args,
        seed=context.seed,
        concurrency=context.concurrency,
        log=context.log,
        lookups_follow=context.lookups_follow,
        deterministic=context.deterministic,
        adapters=context.adapters,
    )


def _vllm_settings(context: EngineContext) -> Mapping[str, Any]:
    if context.deterministic and context.engine_args:  # reported before anything is looked up
        from localemp.engines.vllm.determinism import determinism

        determinism().check(context.engine_args)
    weights = context.weights()
    return {
        "weights_origin": weights.origin,
        "weights_revision": weights.revision,
        "weights_sha256": weights.digest,
        "chat_template_kwargs": dict(context.thinking.template_options),
        "engine_args": {name: value for name, value in context.vllm_args.items() if name not in CAPACITY_ARGS},
    }


def _check_vllm_args(engine_args: Mapping[str, Any]) -> None:
    from localemp.engines.vllm.arguments import check_engine_args

    check_engine_args(engine_args)


def _check_vllm_process() -> None:
    from localemp.engines.vllm.process import spawns
    from localemp.utils.main_guard import check_main_guard

    if spawns():
        check_main_guard("vLLM")


def _check_no_args(engine_args: Mapping[str, Any]) -> None:
    if engine_args:
        raise OptionError("--engine-arg applies only to vLLM in this process, not to a server", "leave it out")


def _openai(context: EngineContext) -> Engine:
    from localemp.engines.openai.engine import OpenAIEngine
    from localemp.models.profiles import is_of_openai

    profile = context.profile
    _check_no_args(context.engine_args)
    model = profile.model or profile.name
    base_url = profile.base_url if context.base_url is None else context.base_url
    options: dict[str, Any] = {
        "api": profile.api,
        "context_length": profile.context_length,
        "price": profile.price,
        "extra_body": {**profile.request, **_asked(context), **context.request},
        "notice": profile.notice,
        "of_openai": is_of_openai(profile.name),
        "named": context.base_url is not None,
    }
    if context.batch:
        from localemp.engines.openai.batch.engine import OpenAIBatchEngine

        return OpenAIBatchEngine(model, base_url, folder=context.folder, concurrency=context.concurrency, **options)
    if context.folder is not None:
        from localemp.engines.openai.batch.stored_batch import under_way

        if known := under_way(context.folder, "this command with --batch"):
            _log.warning("--batch is not given: what batches ask already may be asked, and paid, again; %s", known)
    return OpenAIEngine(model, base_url, concurrency=context.concurrency, **options)


def _openai_settings(context: EngineContext) -> Mapping[str, Any]:
    from localemp.engines.openai.target import shown_url

    profile = context.profile
    server = profile.base_url if context.base_url is None else context.base_url
    return {
        "served_model": profile.model,
        "base_url": None if server is None else shown_url(server),
        "api": profile.api,
        **_asked(context),
        **{name: value for name, value in context.request.items() if name != "service_tier"},
    }


def _openai_untaken(context: EngineContext, sampling: Sampling) -> Mapping[str, str]:
    """Return what the server is known not to take, before anything is asked."""
    from localemp.engines.openai.requests import Requests, untaken
    from localemp.engines.openai.servers import OPENAI, OTHER, server_at
    from localemp.engines.openai.target import address_of, shown_url
    from localemp.models.profiles import is_of_openai

    profile = context.profile
    server = server_at(shown_url(address_of(profile.base_url if context.base_url is None else context.base_url)))
    if server is OTHER and is_of_openai(profile.name):
        server = OPENAI
    found = untaken(server, sampling)
    extra = {**profile.request, **context.request}
    drawn = {name: getattr(sampling, name) for name in ("temperature", "top_p")}
    for name in drawn.keys() & Requests("", profile.api, extra, server).changed.keys():
        if drawn[name] != getattr(Sampling(), name):
            found[name] = f"{profile.name} takes none while it reasons"
    if server.most_temperature is not None and sampling.temperature > server.most_temperature:
        found["temperature"] = f"{server.name} takes {server.most_temperature:g} at most"
    if sampling.schema and profile.api == "completions":
        found["json_schema"] = "an API that completes texts has no schemas"
    elif sampling.schema and "response_format" in server.left_out:
        found["json_schema"] = server.left_out["response_format"]
    return found


def _asked(context: EngineContext) -> dict[str, Any]:
    """Return the field of requests that turns thinking on or off; empty unless the user has said which."""
    if not context.thinking.asked:
        return {}
    told = context.profile.request.get("chat_template_kwargs")
    others = told if isinstance(told, dict) else {}
    return {"chat_template_kwargs": {**others, **context.thinking.template_options}}


def _scripted(context: EngineContext) -> "ScriptedEngine":
    from localemp.engines.scripted import ScriptedEngine

    if context.script is None:
        raise OptionError("the scripted engine needs a script", "give one with --script")
    engine = ScriptedEngine.from_file(context.script, context.adapters)
    if context.deterministic:
        engine.concurrency = 1  # entries that are used up or have several replies depend on the order
    return engine


register_engine(
    "vllm",
    _vllm,
    _vllm_settings,
    deterministic=True,
    adapters=True,
    scores=True,
    gives_choices=lambda _: True,
    untaken=_none_of_them,
    check_args=_check_vllm_args,
    check_process=_check_vllm_process,
)
register_engine(
    "openai",
    _openai,
    _openai_settings,
    gives_choices=lambda context: context.profile.api == "chat",
    untaken=_openai_untaken,
    check_args=_check_no_args,
)
register_engine(
    "scripted",
    _scripted,
    deterministic=True,
    adapters=True,
    gives_choices=lambda context: _scripted(context).gives_choices,
    untaken=_none_of_them,  # its answers are made before
)
