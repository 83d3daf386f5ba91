"""A model's arithmetic, against published totals, real weights, and transformers' own models."""

import json
import math

import pytest
from safetensors import safe_open

from localemp.bench.roofline.architectures import UncountedError
from localemp.bench.roofline.flops import ModelShape, read_shape, why_uncounted
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.paths import resource

SMALL = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 500,
    "pad_token_id": 0,
}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}


def shipped(name: str, **changes: object) -> dict[str, object]:
    return json.loads(resource("models", "shapes", f"{name}.json").read_text("utf-8")) | changes


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("llama", 8_030_261_248),
        ("llama-70b", 70_553_706_496),
        ("mistral-7b-v0.3", 7_248_023_552),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-8b", 8_190_735_360),
    ],
)
def test_published_totals(name, total):
    shape = ModelShape.from_config(shipped(name))
    assert (shape.parameters, shape.active_parameters, shape.weight_bytes) == (total, total, 2 * total)


def test_the_weights_of_smollm2():
    folder = resolve(load_profile("smollm2")).folder
    with safe_open(folder / "model.safetensors", "np") as file:
        counted = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    shape = read_shape(folder, {})
    assert shape is not None
    assert shape.parameters == counted == 134_515_008


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("smollm3", {"tie_word_embeddings": None}),
        ("mistral", {"sliding_window": 64}),
        ("ministral3", {}),
        ("phi3", {"sliding_window": 64, "head_dim": None}),
        ("qwen2", {"head_dim": None, "use_sliding_window": True, "max_window_layers": 3, "sliding_window": 64}),
        ("qwen3", {"sliding_window": 64, "use_sliding_window": False}),
        ("gemma", {"tie_word_embeddings": None}),
        ("gemma2", {"tie_word_embeddings": None, "sliding_window": 64}),
        ("gemma3_text", {"tie_word_embeddings": None, "sliding_window": 64}),
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("qwen3_moe", MIXTURE | {"mlp_only_layers": [2]}),
        ("qwen2_moe", MIXTURE | {"shared_expert_intermediate_size": 80, "decoder_sparse_step": 2, "head_dim": None}),
    ],
)
def test_families_are_counted_as_transformers_builds_them(kind, changes):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    changed = SMALL | {"tie_word_embeddings": False} | changes
    config = {"model_type": kind} | {key: value for key, value in changed.items() if value is not None}
    built = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(built)
    shape = ModelShape.from_config(config)
    assert shape.parameters == model.num_parameters()
    layers = getattr(built, "layer_types", None) or []
    if layers and config.get("sliding_window"):
        assert [window == 64 for window in shape.windows] == [layer == "sliding_attention" for layer in layers]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (SMALL | {"model_type": "deepseek_v3", "kv_lora_rank": 512}, "latent attention"),
        ({"model_type": "qwen3_5", "text_config": SMALL | {"linear_num_value_heads": 32}}, "linear attention"),
        (SMALL | {"model_type": "mamba", "state_size": 16}, "Mamba layers"),
        (SMALL | {"model_type": "gemma4_text"}, "a model of type 'gemma4_text' is not counted"),
        (SMALL | {"model_type": "qwen3", "layer_types": ["chunked_attention"] * 7}, "the kind 'chunked_attention'"),
        (SMALL | {"model_type": "qwen3", "layer_types": ["full_attention"]}, "layer_types has 1 layers"),
        ({"model_type": "llama"}, "does not say num_hidden_layers"),
        (SMALL | {"model_type": "llama", "vocab_size": "500"}, "vocab_size = '500', which is not a count"),
        ({}, "of type None"),
    ],
)
def test_what_is_not_counted_has_a_reason(tmp_path, config, reason):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_shape(tmp_path, {}) is None
    assert reason in why_uncounted(tmp_path, {})
    with pytest.raises(UncountedError):
        ModelShape.from_config(config)


def test_a_step_of_llama_by_hand():
    shape = ModelShape.from_config(shipped("llama"))
    matrices = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    head, norms = 128_256 * 4096, 65 * 4096
    assert shape.kv_bytes_per_token == 131_072
    assert shape.flops_per_token(0) == 2 * (matrices + head)
    assert shape.flops_per_token(1000, logits=False) == 2 * matrices + 4 * 32 * 4096 * 1000
    assert shape.bytes_per_step(64, 512) == 2 * (matrices + head + norms) + 64 * 512 * 131_072


def test_windows_cap_keys_and_values():
    config = shipped("mistral-7b-v0.3", sliding_window=4096)
    assert ModelShape.from_config(config).kv_bytes_of(10_000) == 4096 * 131_072
    config |= {"layer_types": ["full_attention", "sliding_attention"] * 16}
    assert ModelShape.from_config(config).kv_bytes_of(10_000) == 14_096 * 131_072 / 2


def test_a_step_reads_the_experts_that_its_tokens_meet():
    shape = ModelShape.from_config(SMALL | MIXTURE | {"model_type": "qwen3_moe"})
    expert = 7 * 3 * 96 * 48
    assert shape.parameters - shape.active_parameters == 2 * expert
    one, many = shape.bytes_per_step(1, 0), shape.bytes_per_step(1000, 0)
    assert many - one == pytest.approx(2 * 2 * expert)
    assert shape.bytes_per_step(1, 0, computed=1000) == many  # one prompt of many tokens meets them all


@pytest.mark.parametrize(
    ("engine_args", "config", "matrix", "kv"),
    [
        ({}, {"torch_dtype": "float32"}, 2, 2),
        ({"dtype": "float32"}, {}, 4, 4),
        ({"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"}, {}, 1, 1),
        ({"quantization": "bitsandbytes"}, {}, 0.5625, 2),
        ({}, {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}, 0.5 + 2.5 / 128, 2),
        (
            {},
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
                    "kv_cache_scheme": {"num_bits": 8},
                }
            },
            1,
            1,
        ),
    ],
)
def test_bytes_as_vllm_loads_it(tmp_path, engine_args, config, matrix, kv):
    (tmp_path / "config.json").write_text(json.dumps(shipped("llama", **config)))
    shape = read_shape(tmp_path, engine_args)
    assert shape is not None
    assert (shape.matrix_bytes, shape.kv_bytes) == (matrix, kv)
    rest = 2 if matrix <= 2 else 4
    assert shape.weight_bytes == matrix * shape.matrices + rest * (8_030_261_248 - shape.matrices)
    assert ("approx" in shape.note) == (matrix not in (2, 4))


def test_what_changes_a_model_in_unknown_ways_is_not_counted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(shipped("llama")))
    for engine_args in ({"quantization": "torchao"}, {"kv_cache_dtype": "nvfp4"}, {"hf_overrides": {"x": 1}}):
        assert read_shape(tmp_path, engine_args) is None
        assert why_uncounted(tmp_path, engine_args)
    assert why_uncounted(tmp_path, {}) == ""
    (tmp_path / "config.json").write_text("[]")
    assert "a list instead of an object" in why_uncounted(tmp_path, {})


def test_pictures_are_left_out_and_it_says_so():
    config = {"model_type": "mistral3", "text_config": SMALL | {"model_type": "mistral"}, "vision_config": {"x": 1}}
    shape = ModelShape.from_config(config)
    assert shape.note == "the language model alone, without its parts for vision"
    assert shape.parameters == ModelShape.from_config(config["text_config"]).parameters
