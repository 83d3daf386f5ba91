"""Whether a model fits, how much is missing, and what would fit."""

import json
from dataclasses import replace

import psutil
import pytest

from localemp.bench.roofline.flops import ModelShape
from localemp.bench.roofline.memory import Free, free_memory, memory_needed, require_memory, settings_that_fit
from localemp.errors import OptionError
from localemp.utils.paths import resource

LLAMA = ModelShape.from_config(json.loads(resource("models", "shapes", "llama.json").read_text("utf-8")))
GIB = 2**30


def test_what_a_model_needs():
    needed = memory_needed(LLAMA, 8192, 4)
    assert needed == (2 * 8_030_261_248, GIB, 2 * 8_030_261_248 + 4 * GIB)


def test_what_is_missing_and_what_would_fit():
    require_memory(LLAMA, 8192, Free(16 * GIB, gpu=True))
    with pytest.raises(OptionError, match=r"1 GPU can give 15\.5 GiB: 0\.5 GiB are missing") as caught:
        require_memory(LLAMA, 8192, Free(15.5 * GIB, gpu=True, all_devices=2))
    room = int((15.5 * GIB - LLAMA.weight_bytes) // 131_072)
    for told in (f"max_model_len={room}", "kv_cache_dtype=fp8", "quantization=fp8", "tensor_parallel_size=2"):
        assert f"--engine-arg {told}" in caught.value.hint
    assert settings_that_fit(LLAMA, 8192, Free(6 * GIB, gpu=True, all_devices=8)) == {"tensor_parallel_size": 4}
    full = replace(LLAMA, dtype_bytes=4, matrix_bytes=4, kv_bytes=4)
    assert settings_that_fit(full, 8192, Free(20 * GIB)) == {"dtype": "bfloat16"}


@pytest.mark.parametrize("free", [Free(8 * GIB), Free(6 * GIB, gpu=True, all_devices=2)])
def test_where_nothing_would_fit_it_says_what_would(free):
    with pytest.raises(OptionError) as caught:
        require_memory(LLAMA, 8192, free)
    where = "GPUs" if free.gpu else "a machine"
    # 8.03 billion parameters, of which 1.05 are embedding and head that stay at 16 bits; 1 GiB of keys and values.
    assert caught.value.hint == (
        f"take a smaller model, or {where} with 16.0 GiB free for bfloat16, 6.6 GiB for weights of 4 bits"
    )


def test_a_gpu_that_cannot_be_asked_is_no_machine_without_one(monkeypatch, tmp_path):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho NVIDIA H100, 81559 MiB, 580.0\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert free_memory({}) is None


def test_what_is_free_here():
    free = free_memory({})
    assert free is not None
    assert free.bytes > 0
    if not free.gpu:
        assert free.bytes <= psutil.virtual_memory().total
