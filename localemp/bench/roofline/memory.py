"""Check whether a model fits into memory, and find settings that would fit if it does not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import psutil

from localemp.bench.nvml import GPUs, NoGPUError
from localemp.bench.roofline.architectures import FOUR_BITS
from localemp.bench.roofline.flops import ModelShape
from localemp.errors import OptionError
from localemp.utils.machine import gib, gpu
from localemp.utils.words import count

# The share of a GPU's memory that vLLM takes by default: 0.92 in version 0.32, 0.9 earlier.
_VLLM_SHARE = 0.9


class Memory(NamedTuple):
    """The bytes that a model needs at least; activations and the engine itself need more.

    Attributes:
        weights: The weights, on all devices together.
        sequence: Keys and values of one sequence of full context.
        all: Weights and all sequences.
    """

    weights: float
    sequence: float
    all: float


class Free(NamedTuple):
    """The memory that an engine may use.

    Attributes:
        bytes: On one device.
        devices: The number of devices that share the model.
        gpu: Whether they are GPUs; otherwise it is the machine's memory.
        all_devices: The number of devices there are, for tensor parallelism.
    """

    bytes: float
    devices: int = 1
    gpu: bool = False
    all_devices: int = 1


def memory_needed(shape: ModelShape, context: int, sequences: int = 1) -> Memory:
    """Return the memory that a model needs for a number of sequences of full context."""
    sequence = shape.kv_bytes_of(context)
    return Memory(shape.weight_bytes, sequence, shape.weight_bytes + sequences * sequence)


def free_memory(engine_args: Mapping[str, Any]) -> Free | None:
    """Return the memory that vLLM may use with these arguments: of the GPU with the least, or of a machine without GPU.

    None if there is a GPU that cannot be queried.
    """
    try:
        with GPUs() as gpus:
            memory = gpus.memory()
    except NoGPUError:
        return None if gpu() != "none" else Free(psutil.virtual_memory().available)
    share = float(engine_args.get("gpu_memory_utilization", _VLLM_SHARE))
    devices = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        devices *= int(engine_args.get(name, 1))
    least = min(min(total - used, share * total) for used, total in memory[:devices])
    return Free(least, devices, gpu=True, all_devices=len(memory))


def require_memory(shape: ModelShape, context: int, free: Free) -> None:
    """Check that a model and one sequence of full context fit.

    Raises:
        OptionError: They do not; the message says how much is missing, the hint which engine arguments would fit.
    """
    needed, there = memory_needed(shape, context), free.bytes * free.devices
    if needed.all <= there:
        return
    where = count(free.devices, "GPU") if free.gpu else "this machine"
    fitting = [f"--engine-arg {name}={value}" for name, value in settings_that_fit(shape, context, free).items()]
    raise OptionError(
        f"not enough memory: {gib(needed.weights)} of weights and {gib(needed.sequence)} for a context of {context:,} "
        f"tokens, {where} can give {gib(there)}: {gib(needed.all - there)} are missing",
        f"any of these would fit: {', '.join(fitting)}" if fitting else _machine_for(shape, context, free),
    )


def _machine_for(shape: ModelShape, context: int, free: Free) -> str:
    """Advice on a machine that would fit the model and one sequence of full context."""
    sixteen = replace(shape, dtype_bytes=2, matrix_bytes=2, kv_bytes=2)
    four = replace(sixteen, matrix_bytes=FOUR_BITS)
    where = "GPUs" if free.gpu else "a machine"
    most, least = (gib(memory_needed(each, context).all) for each in (sixteen, four))
    return f"take a smaller model, or {where} with {most} free for bfloat16, {least} for weights of 4 bits"


def settings_that_fit(shape: ModelShape, context: int, free: Free) -> dict[str, str | int]:
    """Return engine arguments with values, each of which alone makes a model fit."""
    there, settings = free.bytes * free.devices, dict[str, str | int]()
    if (room := there - shape.weight_bytes) >= shape.kv_bytes_per_token * _SHORTEST:
        settings["max_model_len"] = int(room // shape.kv_bytes_per_token)
    halves = replace(shape, dtype_bytes=2, matrix_bytes=min(2, shape.matrix_bytes), kv_bytes=min(2, shape.kv_bytes))
    smaller: dict[tuple[str, str], ModelShape] = {("dtype", "bfloat16"): halves}
    if free.gpu:
        smaller |= {
            ("kv_cache_dtype", "fp8"): replace(shape, kv_bytes=1),
            ("quantization", "fp8"): replace(shape, matrix_bytes=1),
        }
    for (name, value), other in smaller.items():
        if memory_needed(other, context).all <= there:
            settings.setdefault(name, value)
    for devices in (2, 4, 8) if free.gpu else ():
        if free.devices < devices <= free.all_devices and memory_needed(shape, context).all <= free.bytes * devices:
            settings.setdefault("tensor_parallel_size", devices)
    return settings


_SHORTEST = 256  # tokens: our prompts need more
