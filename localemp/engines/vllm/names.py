"""Every name of vLLM that localemp uses. No other module imports vLLM.

`from localemp.engines.vllm.names import AsyncLLM` imports vLLM at that moment. It takes seconds, so it is done inside
functions. A name that has moved has several modules, the newest first. `tests/engines/test_vllm_names.py` lists what
each version has.
"""

from importlib import import_module
from typing import Any

from localemp.engines.vllm.versions import KNOWN, vllm_version
from localemp.errors import FatalEngineError

# By name, the modules that have it in one of the versions.
NAMES: dict[str, tuple[str, ...]] = {
    # the engine
    "AsyncEngineArgs": ("vllm.engine.arg_utils",),
    "AsyncLLM": ("vllm.v1.engine.async_llm",),
    "CachedRequestState": ("vllm.v1.worker.gpu_input_batch",),
    "EngineDeadError": ("vllm.v1.engine.exceptions",),
    "LoRARequest": ("vllm.lora.request",),
    "PunicaWrapperCPU": ("vllm.lora.punica_wrapper.punica_cpu",),
    "ReasoningConfig": ("vllm.config.reasoning",),
    "RequestOutput": ("vllm.outputs",),
    "RequestOutputKind": ("vllm.sampling_params",),
    "SamplingParams": ("vllm.sampling_params",),
    "StructuredOutputsParams": ("vllm.sampling_params",),
    "UsageContext": ("vllm.usage.usage_lib",),
    "current_platform": ("vllm.platforms",),
    # parsers of thinking
    "ChatCompletionRequest": ("vllm.entrypoints.openai.chat_completion.protocol",),
    "ReasoningParserManager": ("vllm.reasoning",),
    # the server
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils",),
    "ServeSubcommand": ("vllm.entrypoints.cli.serve",),
    "cli_env_setup": ("vllm.entrypoints.common.startup", "vllm.entrypoints.serve.utils.api_utils"),  # 0.33, before
    "configure_logging_from_args": ("vllm.logger",),
    # benchmarks
    "LLM": ("vllm.entrypoints.llm",),
}
# Whole modules, by the names that we give them.
MODULES = {
    "vllm": "vllm",
    "serve_benchmark": "vllm.benchmarks.serve",
    "throughput_benchmark": "vllm.benchmarks.throughput",
}


def __getattr__(name: str) -> Any:
    """Import a name of vLLM.

    Raises:
        AttributeError: It is not in the tables above.
        FatalEngineError: The installed vLLM does not have it, or cannot be imported.
    """
    if name in MODULES:
        module = _module(MODULES[name])
        if module is not None:
            return module
    elif name in NAMES:
        for place in NAMES[name]:
            module = _module(place)
            if module is not None and hasattr(module, name):
                return getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = MODULES.get(name) or " or ".join(NAMES[name])
    raise FatalEngineError(
        f"vLLM {vllm_version() or '(not installed)'} has no {name} ({where})", f"localemp knows vLLM {KNOWN}"
    )


def _module(name: str) -> Any:
    """Import a module of vLLM; return None if this version does not have it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise _broken(error) from error
    except ImportError as error:
        raise _broken(error) from error


def _broken(error: ImportError) -> FatalEngineError:
    said = " ".join(str(error).split())[:300]
    return FatalEngineError(
        f"vLLM {vllm_version() or ''} cannot be imported: {said}", "its installation is not complete: install it again"
    )
