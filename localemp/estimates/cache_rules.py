"""The rules of the prefix cache that a run will meet: vLLM's on this machine, or a provider's."""

import os
from collections.abc import Mapping
from typing import Any

from localemp.bench.nvml import GPUs, NoGPUError
from localemp.bench.roofline.flops import ModelShape, read_shape
from localemp.bench.roofline.memory import free_memory
from localemp.engines.vllm.engine import VLLMEngine
from localemp.engines.vllm.process import CPU_KV_CACHE_BYTES
from localemp.estimates.bench_results import RESULTS, is_of_engine, numeric, results_of_this_machine
from localemp.estimates.prefix_cache import CacheRules
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.machine import gpu

# Defaults of vLLM 0.32: tokens of a block, and requests in a batch by the GPU's memory.
_BLOCK, _BLOCK_ON_CPU = 16, 128
_AT_ONCE, _AT_ONCE_ON_LARGE_GPU, _LARGE_GPU = 256, 1024, 70 * 2**30
# The share of a GPU's memory that activations and graphs take, a rough figure.
_ACTIVATIONS = 0.05
# OpenAI's: https://developers.openai.com/api/docs/guides/prompt-caching
_OPENAI_BLOCK, _OPENAI_SMALLEST = 128, 1024


def cache_rules(pipeline: Pipeline) -> tuple[CacheRules | None, str]:
    """Return the rules, and where they come from; None if the server's cache is unknown."""
    if pipeline.profile.engine == "vllm":
        return _vllm(pipeline)
    if pipeline.profile.engine == "openai" and pipeline.profile.price is not None:
        from localemp.engines.openai.engine import OpenAIEngine  # brings the client library

        at_once = pipeline.config.concurrency or OpenAIEngine.concurrency
        if pipeline.profile.price.cache_write is not None:
            rules = CacheRules(block=0, at_once=at_once, concurrency=at_once)
            return rules, "the provider's cache keeps prompts up to their last message, which dialogues do not share"
        rules = CacheRules(_OPENAI_BLOCK, _OPENAI_SMALLEST, None, at_once, at_once)
        return rules, "at most: the provider caches prefixes of 1,024 tokens or more, in steps of 128, if it can"
    return None, "the server's cache is unknown"


def _vllm(pipeline: Pipeline) -> tuple[CacheRules, str]:
    options = numeric(pipeline.config.engine_args)
    on_cpu = gpu() == "none"
    if pipeline.config.deterministic and on_cpu:
        return CacheRules(0, 0, None, 1, 1), "switched off by --deterministic"
    known = {} if on_cpu else _configured(pipeline)
    at_once = int(options.get("max_num_seqs") or known.get("max_num_seqs") or (_AT_ONCE if on_cpu else _gpu_batch()))
    concurrency = pipeline.config.concurrency or max(VLLMEngine.concurrency, 2 * at_once)
    if options.get("enable_prefix_caching") is False:
        return CacheRules(0, 0, None, at_once, concurrency), "switched off by enable_prefix_caching"
    block = int(options.get("block_size") or known.get("block_size") or (_BLOCK_ON_CPU if on_cpu else _BLOCK))
    shape = read_shape(pipeline.weights.folder, options)
    capacity = known.get("num_gpu_blocks") or _blocks(shape, options, block, on_cpu)
    if capacity is None:
        memory = "in a KV cache of unknown size, taken as large enough"
    else:
        memory = f"in a KV cache of {capacity * block:,} tokens"
    how = f"counted over the prompts as vLLM does, in blocks of {block} tokens {memory}"
    if shape is None or any(window is not None for window in shape.windows):
        how += "; approximate, as this architecture's cache has rules of its own"
    return CacheRules(block, 0, capacity, at_once, concurrency), how


def _configured(pipeline: Pipeline) -> Mapping[str, int]:
    """Return how `bench engine` found this engine configured on this machine; empty if it did not."""
    names = ("block_size", "num_gpu_blocks", "max_num_seqs")
    for _, result in results_of_this_machine(RESULTS):
        engine = result.settings.get("engine")
        found = engine.get("configured") if isinstance(engine, Mapping) and is_of_engine(result, pipeline) else None
        if isinstance(found, Mapping):
            return {name: found[name] for name in names if type(found.get(name)) is int and found[name] > 0}
    return {}


def _gpu_batch() -> int:
    try:
        with GPUs() as gpus:
            return _AT_ONCE_ON_LARGE_GPU if gpus.memory()[0][1] >= _LARGE_GPU else _AT_ONCE
    except NoGPUError:
        return _AT_ONCE


def _blocks(shape: ModelShape | None, options: Mapping[str, Any], block: int, on_cpu: bool) -> int | None:
    """Return how many blocks fit the KV cache; None if unknown."""
    if fixed := options.get("num_gpu_blocks_override"):
        return int(fixed)
    if shape is None or not shape.kv_bytes_per_token:
        return None
    size: float | None = options.get("kv_cache_memory_bytes")
    if on_cpu:
        # vLLM's own variable comes first.
        chosen = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
        size = int(chosen) * 2**30 if chosen.isdecimal() else size or CPU_KV_CACHE_BYTES
    elif size is None:
        if (free := free_memory(options)) is None:
            return None
        size = free.bytes * free.devices * (1 - _ACTIVATIONS) - shape.weight_bytes
    return max(1, int(size / (shape.kv_bytes_per_token * block)))
