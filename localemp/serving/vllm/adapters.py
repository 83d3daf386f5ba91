"""LoRA adapters of vLLM's server: found and checked before it starts, and its options for them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from localemp.engines.vllm.lora import lora_args
from localemp.engines.vllm.options import as_options, option_name
from localemp.errors import OptionError
from localemp.models.adapters import Adapter, adapter_name, split_spec
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.names import ModelNames
from localemp.serving.settings import MOST_ADAPTERS
from localemp.strategies.registry import PARTS

_SIZES = ("max_loras", "max_cpu_loras", "max_lora_rank")


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
    taken = {model: "the model's", **dict.fromkeys(PARTS, "a strategy's")}
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
    given = _engine_args(options)
    if "lora_modules" in given:
        raise OptionError("-- --lora-modules and --adapter exclude each other", "name all of them with --adapter")
    chosen = lora_args(adapters, given, on_cpu=False, typed=lambda name: f"-- {option_name(name)} ")
    names = ModelNames(model)
    modules = [
        json.dumps({"name": names.of(adapter.name), "path": str(adapter.folder), "base_model_name": model})
        for adapter in adapters
    ]
    return [*as_options(chosen), "--lora-modules", *modules]


def _engine_args(options: Sequence[str]) -> dict[str, Any]:
    """Return what the user's options say of adapters, as engine arguments; a size that is no number is for vLLM."""
    given: dict[str, Any] = {}
    for option, following in zip_longest(options, options[1:], fillvalue=""):
        name, _, value = option.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if name in ("enable_lora", "no_enable_lora"):
            given["enable_lora"] = name == "enable_lora"
        elif name == "lora_modules":
            given[name] = True
        elif name in _SIZES:
            value = value or following
            given[name] = int(value) if value.isdecimal() else value
    return given
