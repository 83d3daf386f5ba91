"""LoRA adapters of vLLM's server: found and checked before it starts, and its options for them."""

import json
from collections.abc import Sequence
from dataclasses import replace

from localemp.engines.vllm.lora import lora_args
from localemp.errors import OptionError
from localemp.models.adapters import Adapter, adapter_name, split_spec
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.names import ModelNames
from localemp.serving.settings import MOST_ADAPTERS
from localemp.serving.vllm.options import as_options, read_options
from localemp.strategies.registry import parts


def check_names(model: str, specs: Sequence[str]) -> None:
    """Check that adapters can be told apart from one another, from the model and from its strategies.

    Args:
        model: The name of the model.
        specs: The adapters as they were typed: "mine=adapters/listener".

    Raises:
        OptionError: There are too many, or a name is taken.
    """
    if len(specs) > MOST_ADAPTERS:
        raise OptionError(f"{len(specs)} adapters; a server has at most {MOST_ADAPTERS}", "start a second server")
    taken = {model: "the model's", **dict.fromkeys(parts(), "a strategy's")}
    for spec in specs:
        name = adapter_name(spec)
        if name in taken:
            raise OptionError(
                f"--adapter {spec}: the name {name!r} is {taken[name]}",
                f"give another: --adapter NAME={split_spec(spec)[1]}",
            )
        taken[name] = "another adapter's"


def find_adapters(pipeline: Pipeline, specs: Sequence[str]) -> list[Adapter]:
    """Find or fetch adapters, and check each against the model.

    Raises:
        LocalempError: There is no such adapter, it does not fit the model, or the model runs elsewhere.
    """
    found = (pipeline.sharing(replace(pipeline.config, adapter=spec)).adapter for spec in specs)
    return [adapter for adapter in found if adapter is not None]


def adapter_options(model: str, adapters: Sequence[Adapter], options: Sequence[str]) -> list[str]:
    """Return vLLM's options for adapters, which it serves as MODEL@ADAPTER; the user's own sizes take precedence.

    Args:
        model: The name of the model.
        adapters: The adapters.
        options: The user's options for vLLM.

    Raises:
        OptionError: The user's options exclude an adapter.
    """
    if not adapters:
        return []
    given = read_options(options)
    if "lora_modules" in given:
        raise OptionError("-- --lora-modules and --adapter exclude each other", "name all of them with --adapter")
    chosen = lora_args(adapters, given, on_cpu=False, typed=lambda name: f"-- --{name.replace('_', '-')} ")
    names = ModelNames(model)
    modules = [
        json.dumps({"name": names.of(adapter.name), "path": str(adapter.folder), "base_model_name": model})
        for adapter in adapters
    ]
    return [*as_options(chosen), "--lora-modules", *modules]
