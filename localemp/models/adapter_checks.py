"""Checks that an adapter fits a model, before an engine starts: sizes, layers and modules, from the model's own files.

The model's configuration says hidden size and number of layers; the headers of its safetensors files have every shape.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from localemp.errors import OptionError, WeightsError
from localemp.models.adapters import Adapter
from localemp.models.data_only import read_settings
from localemp.models.peft import WEIGHTS, LoraModule
from localemp.models.profiles import MergedSource, Profile, base_profile
from localemp.models.safetensors_header import read_header
from localemp.models.stamps import sha256_of
from localemp.utils.text import one_line

_IN_A_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.(.+)")
_HIDDEN, _LAYERS = ("hidden_size", "n_embd", "d_model"), ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_FROM_HIDDEN = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
_TO_HIDDEN = ("o_proj", "down_proj")


def check_adapter(adapter: Adapter, model_folder: Path) -> None:
    """Check that a model has the modules that an adapter changes, each of the adapter's sizes.

    Args:
        adapter: The adapter.
        model_folder: The model's folder, with config.json and usually safetensors files.

    Raises:
        WeightsError: It does not fit; names the adapter's module, what it has, and what the model has.
    """
    whole = read_settings(model_folder / "config.json")
    config = whole["text_config"] if isinstance(whole.get("text_config"), dict) else whole
    hidden, layers = _number(config, _HIDDEN), _number(config, _LAYERS)
    shapes = {} if "quantization_config" in whole else _shapes(model_folder)
    for module in adapter.modules:
        layer = _IN_A_LAYER.search(module.name)
        if layer and layers is not None and int(layer[1]) >= layers:
            raise _misfit(adapter, module, f"is in layer {layer[1]}", f"the model has layers 0 to {layers - 1}")
        if ".experts" in module.name:  # packed in many ways, which vLLM knows
            continue
        if hidden is not None and module.target in _FROM_HIDDEN and module.inputs != hidden:
            raise _misfit(adapter, module, f"has {module.inputs:,} inputs", f"the model's hidden size is {hidden:,}")
        if hidden is not None and module.target in _TO_HIDDEN and module.outputs != hidden:
            raise _misfit(adapter, module, f"has {module.outputs:,} outputs", f"the model's hidden size is {hidden:,}")
        if shapes:
            _check_shape(adapter, module, shapes)
    vocabulary = _number(config, ("vocab_size",))
    if None not in (adapter.vocabulary, vocabulary) and adapter.vocabulary != vocabulary:
        raise WeightsError(
            f"{adapter.folder / WEIGHTS}: it has an embedding of {adapter.vocabulary:,} tokens, "
            f"the model's vocabulary has {vocabulary:,}",
            "vLLM uses the model's own embedding; train the adapter without new tokens",
        )


def check_not_merged(adapter: Adapter, profile: Profile) -> None:
    """Check that an adapter is not applied a second time, to weights into which it has been merged.

    Raises:
        OptionError: It has been.
    """
    merged = profile.merged
    if merged and sha256_of(adapter.folder / WEIGHTS) == (merged.sha256 or sha256_of(merged.adapter / WEIGHTS)):
        raise OptionError(
            f"--adapter {one_line(adapter.reference, 200)}: it is merged into {profile.name} already",
            f"omit it; or name the model without it: --model {merged.base}",
        )


def base_note(adapter: Adapter, profile: Profile, folder: Path) -> str:
    """Return a note if the model is not the one that an adapter says it was trained on; else nothing.

    Args:
        adapter: The adapter, which fits.
        profile: The model.
        folder: The model's folder.
    """
    trained_on = _names(adapter.base)
    if trained_on and trained_on <= _names(folder.name, *_names_of(profile)):
        return ""
    if profile.merged is not None and trained_on <= _names(*_names_of(base_profile(profile.merged))):
        return _already(adapter, profile.merged, profile.name)
    if not trained_on:
        return ""
    return f"the adapter {adapter.name} says that it was trained on {adapter.base}; its sizes fit this model"


def _already(adapter: Adapter, merged: MergedSource, model: str) -> str:
    trained = f"was trained on {adapter.base}" if adapter.base else "does not say what it was trained on"
    return (
        f"{model} has another adapter, {merged.adapter.name}, merged into it, and {adapter.name} {trained}: both are "
        f"applied now; --model {merged.base} is the model without"
    )


def _names_of(profile: Profile) -> list[str]:
    named = [profile.name, *([profile.hub.id] if profile.hub else [])]
    return [*named, str(profile.path)] if profile.path else named


def _names(*names: str) -> set[str]:
    """Return the last parts of a model's names: checkpoints are moved, and have their folder's name then."""
    return {name.rstrip("/").rsplit("/", 1)[-1].lower() for name in names if name}


def _number(config: Mapping[str, Any], names: Collection[str]) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), None)


def _shapes(folder: Path) -> dict[str, list[tuple[int, ...]]]:
    """Return the shapes of a model's matrices by what of their names all versions of a model share, see `_key`."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, header in read_header(path).items():
            if name.endswith(".weight") and len(header.shape) == 2:
                shapes.setdefault(_key(name.removesuffix(".weight")), []).append(header.shape)
    if "lm_head" not in shapes and "embed_tokens" in shapes:  # tied
        shapes["lm_head"] = shapes["embed_tokens"]
    return shapes


def _key(module: str) -> str:
    """Return a module's name from its layer on, or its last part: what is before differs between checkpoints."""
    layer = _IN_A_LAYER.search(module)
    return f"{layer[1]}.{layer[2]}" if layer else module.rsplit(".", 1)[-1]


def _check_shape(adapter: Adapter, module: LoraModule, shapes: Mapping[str, list[tuple[int, ...]]]) -> None:
    found = shapes.get(_key(module.name))
    if found is None:
        targets = sorted({key.rsplit(".", 1)[-1] for key in shapes})
        raise _misfit(
            adapter, module, "changes a module that the model does not have", f"it has {', '.join(targets[:20])}"
        )
    fits = {(module.outputs, module.inputs), (module.inputs, module.outputs)}  # GPT-2's matrices are transposed
    if not fits & set(found):
        has = " or ".join(f"{shape[1]:,} inputs and {shape[0]:,} outputs" for shape in sorted(set(found)))
        raise _misfit(
            adapter,
            module,
            f"has {module.inputs:,} inputs and {module.outputs:,} outputs",
            f"the model's {module.target} has {has}",
        )


def _misfit(adapter: Adapter, module: LoraModule, what: str, model_has: str) -> WeightsError:
    base = f" ({adapter.base})" if adapter.base else ""
    return WeightsError(
        f"{adapter.folder / WEIGHTS}: {one_line(module.name, 200)} {what}; {one_line(model_has, 300)}",
        f"an adapter works with the model that it was trained on{base}: name that with --model",
    )
