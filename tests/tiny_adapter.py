"""LoRA adapters in PEFT's form, and a model of two layers that they fit; values are the same every time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save_file

CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "someone/tiny", "r": 4, "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"], "bias": "none", "use_dora": False, "use_rslora": False,
    "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": False, "lora_dropout": 0.0,
}  # fmt: skip
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10,
}  # fmt: skip
# Inputs and outputs of the modules of a layer.
SIZES = {
    "self_attn.q_proj": (8, 8), "self_attn.k_proj": (8, 4), "self_attn.v_proj": (8, 4), "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (8, 12), "mlp.up_proj": (8, 12), "mlp.down_proj": (12, 8),
}  # fmt: skip


def write_adapter(
    folder: Path,
    *,
    modules: Mapping[str, tuple[int, int]] = {name: SIZES[name] for name in ("self_attn.q_proj", "mlp.down_proj")},
    layers: Sequence[int] = (0, 1),
    rank: int = 4,
    seed: int = 0,
    scale: float = 0.02,
    tensors: Mapping[str, Any] = {},
    **config: Any,
) -> Path:
    """Write an adapter; returns its folder.

    Args:
        folder: The folder.
        modules: Inputs and outputs of the modules of each layer.
        layers: The layers.
        rank: Of all matrices.
        seed: Of their values.
        scale: Spread of their values.
        tensors: More tensors.
        **config: Keys of the configuration that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.RandomState(seed)
    made: dict[str, Any] = {}
    for layer in layers:
        for name, (inputs, outputs) in modules.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            made[f"{module}.lora_A.weight"] = random.normal(0, scale, (rank, inputs)).astype("float32")
            made[f"{module}.lora_B.weight"] = random.normal(0, scale, (outputs, rank)).astype("float32")
    save_file({**made, **tensors}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, "r": rank, **config}))
    return folder


def write_model(folder: Path, **config: Any) -> Path:
    """Write the configuration and the weights of a model without a tokenizer; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"model.layers.{layer}.{name}.weight": numpy.zeros((outputs, inputs), "float32")
        for layer in range(2)
        for name, (inputs, outputs) in SIZES.items()
    }
    save_file({**tensors, "model.embed_tokens.weight": numpy.zeros((10, 8), "float32")}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**MODEL, **config}))
    return folder
