"""Read the sizes of a model from its `config.json`, family by family; `localemp.bench.roofline.flops` uses them.

Each family's defaults and parts are those of its implementation in transformers; the tests compare them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from localemp.errors import LocalempError
from localemp.utils.text import one_line

Config = Mapping[str, Any]

_LARGEST, _MOST_LAYERS = 2**40, 10_000  # beyond any model

# 4-bit weights of bitsandbytes: a float32 scale for 64 of them.
FOUR_BITS = 0.5 + 4 / 64


class UncountedError(LocalempError):
    """A configuration whose sizes cannot be counted; the message says why."""


@dataclass(frozen=True, slots=True)
class Family:
    """The properties of a `model_type` that its configuration does not state.

    Attributes:
        defaults: What holds where the configuration is silent.
        kv_as_heads: Whether keys and values have as many heads as queries where the configuration is silent.
        norms: A layer's norms over the hidden size.
        head_norms: Whether queries and keys have norms, over a head's size.
        qkv_bias: Whether queries, keys and values have biases.
        slides: Layers with a sliding window, where the configuration lists no `layer_types`.
    """

    defaults: Config = field(default_factory=dict)
    kv_as_heads: bool = False
    norms: int = 2
    head_norms: bool = False
    qkv_bias: bool = False
    slides: str = "none"


_TIED = {"tie_word_embeddings": True}
_GEMMA3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}
_FAMILIES = {
    "llama": Family(kv_as_heads=True),
    "smollm3": Family(_TIED, kv_as_heads=True),
    "mistral": Family(slides="all"),
    "ministral3": Family(slides="all"),
    "mixtral": Family(slides="all"),
    "phi3": Family(kv_as_heads=True, slides="all"),
    "qwen2": Family(qkv_bias=True, slides="upper"),
    "qwen2_moe": Family(qkv_bias=True, slides="upper"),
    "qwen3": Family({"head_dim": 128}, head_norms=True, slides="upper"),
    "qwen3_moe": Family(head_norms=True, slides="upper"),
    "gemma": Family(_TIED | {"head_dim": 256}),
    "gemma2": Family(_TIED | {"head_dim": 256}, norms=4, slides="every other"),
    "gemma3_text": Family(_TIED | _GEMMA3 | {"sliding_window_pattern": 6}, norms=4, head_norms=True, slides="pattern"),
}
# Signs of kinds that are not counted, in any configuration.
_OTHER_KINDS = {
    "kv_lora_rank": "multi-head latent attention (MLA), whose keys and values are compressed",
    "linear_num_value_heads": "linear attention in some of its layers",
    "mamba_d_state": "Mamba layers",
    "ssm_state_size": "Mamba layers",
    "state_size": "Mamba layers",
    "num_kv_shared_layers": "layers that share keys and values",
    "is_encoder_decoder": "an encoder besides the decoder",
}
_NOT_LANGUAGE = ("vision_config", "audio_config")


def language_model(config: Config) -> tuple[Config, Family, str]:
    """The configuration of the language model with its family's defaults, the family, and what is left out.

    Raises:
        UncountedError: It is of another kind.
    """
    inner = table(config, "text_config")
    outer = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    language = outer | dict(inner or config)
    for key, kind in _OTHER_KINDS.items():
        if language.get(key):
            raise UncountedError(f"the model has {kind}: its sizes are not counted")
    name = language.get("model_type")
    if not isinstance(name, str) or name not in _FAMILIES:
        raise UncountedError(f"a model of type {name!r} is not counted, only {', '.join(_FAMILIES)}")
    left_out = ", ".join(part.removesuffix("_config") for part in _NOT_LANGUAGE if config.get(part))
    note = f"the language model alone, without its parts for {left_out}" if left_out else ""
    return dict(_FAMILIES[name].defaults) | language, _FAMILIES[name], note


class Experts(NamedTuple):
    """The experts of a model; all zero if it has none.

    Attributes:
        layers: Layers with experts.
        of_layer: Experts in a layer.
        per_token: Experts that a token goes through.
        each: Parameters of one expert.
        for_all: Parameters of a layer's router and shared expert.
    """

    layers: int = 0
    of_layer: int = 0
    per_token: int = 0
    each: int = 0
    for_all: int = 0


def experts_of(config: Config, layers: int) -> Experts:
    """Return the experts of a mixture-of-experts model."""
    count = number(config, "num_experts", number(config, "num_local_experts", 0))
    if not count:
        return Experts()
    hidden, shared = number(config, "hidden_size"), number(config, "shared_expert_intermediate_size", 0)
    size = number(config, "moe_intermediate_size", number(config, "intermediate_size", 0))
    step, dense = number(config, "decoder_sparse_step", 1), many(config, "mlp_only_layers")
    return Experts(
        layers=sum((layer + 1) % max(step, 1) == 0 and layer not in dense for layer in range(layers)),
        of_layer=count,
        per_token=number(config, "num_experts_per_tok"),
        each=3 * hidden * size,
        for_all=hidden * count + (3 * hidden * shared + hidden if shared else 0),  # a shared expert has a gate
    )


def windows_of(config: Config, family: Family, layers: int) -> tuple[int | None, ...]:
    """Return the attention window of each layer, in tokens; None is all."""
    window = number(config, "sliding_window", 0) or None
    if kinds := many(config, "layer_types"):
        if other := [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]:
            raise UncountedError(f"layers of the kind {_shown(other[0])} are not counted")
        if len(kinds) != layers:
            raise UncountedError(f"layer_types has {len(kinds)} layers, num_hidden_layers is {layers}")
        slides = [kind == "sliding_attention" for kind in kinds]
    elif family.slides == "upper":
        first = number(config, "max_window_layers", layers) if config.get("use_sliding_window") else layers
        slides = [layer >= first for layer in range(layers)]
    elif family.slides in ("every other", "pattern"):
        every = 2 if family.slides == "every other" else number(config, "sliding_window_pattern")
        slides = [(layer + 1) % max(every, 1) != 0 for layer in range(layers)]
    else:
        slides = [family.slides == "all"] * layers
    return tuple(window if sliding else None for sliding in slides)


def quantised_bytes(method: str, details: Config) -> float:
    """Return the bytes of a parameter: its bits, plus a 16-bit scale and a zero point for each group."""
    if "fp8" in method.split("_"):
        return 1
    if method == "bitsandbytes":
        return 1 if details.get("load_in_8bit") else FOUR_BITS
    if "awq" in method or "gptq" in method:
        bits, group = details.get("bits", details.get("w_bit", 4)), details.get("group_size", 128)
    elif method == "compressed-tensors" and (groups := table(details, "config_groups")):
        weights = table(table(groups, next(iter(groups))), "weights")
        bits, group = weights.get("num_bits"), weights.get("group_size")
    else:
        bits = group = None
    if not isinstance(bits, int) or not 0 < bits <= 64:
        raise UncountedError(f"weights quantised by {_shown(method)}: their sizes are not counted")
    return bits / 8 + ((2 + bits / 8) / group if isinstance(group, int) and 0 < group <= _LARGEST else 0)


def kv_cache_bytes(dtype: str, details: Config, model_bytes: float) -> float:
    """Return the bytes of an element of the KV cache; "auto" follows the checkpoint's quantisation, or the model."""
    scheme = table(details, "kv_cache_scheme")
    if dtype.startswith("fp8") or (dtype == "auto" and scheme.get("num_bits") == 8):
        return 1
    sizes = {"auto": model_bytes, "bfloat16": 2, "float16": 2}
    if dtype not in sizes:
        raise UncountedError(f"a KV cache of {dtype}: its size is not counted")
    return sizes[dtype]


def number(config: Config, key: str, default: int | None = None) -> int:
    """Return a count in a configuration; without a default it must be there."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise UncountedError(f"the configuration does not say {key}")
    largest = _MOST_LAYERS if key == "num_hidden_layers" else _LARGEST
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise UncountedError(f"the configuration has {key} = {_shown(value)}, which is not a count")
    return value


def table(config: Config, key: str) -> Config:
    """Return an object in a configuration; empty if there is none."""
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise UncountedError(f"the configuration has {key} = {_shown(value)}, which is not an object")
    return value


def many(config: Config, key: str) -> Sequence[Any]:
    """Return a list in a configuration; empty if there is none."""
    value = config.get(key) or ()
    if not isinstance(value, list | tuple):
        raise UncountedError(f"the configuration has {key} = {_shown(value)}, which is not a list")
    return value


def _shown(value: Any) -> str:
    return one_line(repr(value), 80)
