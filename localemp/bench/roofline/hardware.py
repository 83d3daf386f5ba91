"""The measured peak of this device: copy bandwidth and the rate of matrix products.

They are the two limits of a roofline (Williams et al. 2009); published specifications are not used. They are measured
in a process of their own (`python -m localemp.bench.roofline.hardware`), which leaves no CUDA context and no threads
behind, and on a CPU with as many threads as vLLM uses.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
from pydantic import TypeAdapter, ValidationError

from localemp.engines.vllm.process import cpu_defaults
from localemp.errors import LocalempError
from localemp.utils.machine import usable_cores
from localemp.utils.validation import format_validation_error

_DTYPES = ("bfloat16", "float16", "float32")
_REPEATS = 5
_LIMIT = 120  # seconds for the child, its imports included


@dataclass(frozen=True, slots=True)
class Hardware:
    """The measurements, one value for each repeat.

    Attributes:
        device: The device's name.
        copy_gb_per_s: Bytes read and written by a large copy within the device's memory, 10^9 a second.
        matrix_tflops: Operations of a product of large square matrices, 10^12 a second.
        dtype: The matrices' type.
        settings: Sizes, threads and versions.
    """

    device: str
    copy_gb_per_s: tuple[float, ...]
    matrix_tflops: tuple[float, ...]
    dtype: str
    settings: dict[str, Any] = field(default_factory=dict)


_MEASURED = TypeAdapter(Hardware)


def measure_hardware(dtype: str = "bfloat16") -> Hardware:
    """Measure this machine's first GPU, or its processor if it has none.

    Args:
        dtype: The matrices' type: that of the model.

    Raises:
        LocalempError: The measurement failed; the message says why.
    """
    command = [sys.executable, "-m", __name__, "--dtype", dtype]
    what = "the hardware could not be measured"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalempError(f"{what}: {error}") from error
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"its process ended with {done.returncode}"
        raise LocalempError(f"{what}: {reason}", "see what other programs use the device")
    try:
        return _MEASURED.validate_json((done.stdout.splitlines() or [""])[-1])
    except ValidationError as error:
        raise LocalempError(f"{what}: its process said something else: {format_validation_error(error)}") from error


def engine_threads() -> int | None:
    """Return the threads of vLLM's CPU build, as in its `ompmultiprocessing` (version 0.32); None leaves it to torch.

    It binds one thread to each physical core except reserved ones, whatever OMP_NUM_THREADS says, which counts only if
    it binds none.
    """
    bound = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto")
    if bound == "nobind":
        return None
    if bound != "auto":
        ends = (part.partition("-") for part in bound.partition("|")[0].split(","))
        return sum(int(last or first) - int(first) + 1 for first, _, last in ends)
    cpu_defaults()  # may say that none is reserved
    cores = min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores())
    reserved = int(os.environ.get("VLLM_CPU_NUM_OF_RESERVED_CPU", "1"))
    return cores - reserved if cores > reserved else cores


def _measure(dtype: str) -> Hardware:
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        torch.set_num_threads(engine_threads() or torch.get_num_threads())
    wait = torch.cuda.synchronize if cuda else _nothing
    free = torch.cuda.mem_get_info()[0] if cuda else 4 * 2**30
    # Far beyond any cache: what a decode step reads is, too.
    sizes = [size for size in (2**30, 2**32) if 3 * size < free] if cuda else [2**27, 2**28, 2**29]
    with torch.inference_mode():
        copies = {size: _copies(size, device, wait, 0.2 if cuda else 0.5) for size in sizes or [2**27]}
        side = 8192 if cuda else 2048
        matrices = _products(side, getattr(torch, dtype), device, wait, 1.0 if cuda else 2.5)
    best = max(copies, key=lambda size: max(copies[size]))
    threads = {} if cuda else {"threads": torch.get_num_threads()}
    return Hardware(
        device=torch.cuda.get_device_name() if cuda else "CPU",
        copy_gb_per_s=copies[best],
        matrix_tflops=matrices,
        dtype=dtype,
        settings={
            "copy": "bytes read and written, of the best of several sizes",
            "copy_mib": best // 2**20,
            "copy_mib_tried": [size // 2**20 for size in copies],
            "matrix": f"{side} x {side} times {side} x {side}",
            "torch": torch.__version__,
            **threads,
        },
    )


def _copies(size: int, device: Any, wait: Callable[[], None], seconds: float) -> tuple[float, ...]:
    """Return GB per second, read and written, of copies of this many bytes."""
    import torch

    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    each = _time(lambda: target.copy_(source), wait, seconds)
    return tuple(2 * size / taken / 1e9 for taken in each)


def _products(side: int, dtype: Any, device: Any, wait: Callable[[], None], seconds: float) -> tuple[float, ...]:
    """Return TFLOP per second of products of square matrices."""
    import torch

    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(left)
    each = _time(lambda: torch.mm(left, right, out=result), wait, seconds)
    return tuple(2 * side**3 / taken / 1e12 for taken in each)


def _time(work: Callable[[], object], wait: Callable[[], None], seconds: float) -> list[float]:
    """Seconds of one call, after a warm-up: the mean of each of several repeats, which take `seconds` together."""

    def repeat(times: int) -> float:
        wait()
        started = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        return (time.perf_counter() - started) / times

    repeat(2)
    times = max(1, round(seconds / _REPEATS / repeat(2)))
    return [repeat(times) for _ in range(_REPEATS)]


def _nothing() -> None:
    """A CPU is done when its call returns."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure this device; prints one JSON object.")
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16")
    print(json.dumps(asdict(_measure(parser.parse_args().dtype))))
