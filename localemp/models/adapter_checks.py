"""Checks that an adapter fits a model, before an engine starts: sizes, layers and modules, from the model's own files.

The model's configuration says hidden size and number of layers; the headers of its safetensors files have every shape.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from localemp.errors import WeightsError
from localemp.models.adapters import Adapter
from localemp.models.data_only import read_settings
from localemp.models.peft import WEIGHTS, LoraModule
from localemp.models.safetensors_header import read_header
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


def other_base(adapter: Adapter, names: Collection[str]) -> str:
    """Return a note if an adapter says that it was trained on another model than one of these names; else nothing.

    Args:
        adapter: The adapter, which fits.
        names: The model's names: of its profile, on the hub, its folder.
    """
    base = adapter.base.rstrip("/").rsplit("/", 1)[-1].lower()
    if not base or base in {name.rstrip("/").rsplit("/", 1)[-1].lower() for name in names}:
        return ""
    return f"the adapter {adapter.name} says that it was trained on {adapter.base}; its sizes fit this model"


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
