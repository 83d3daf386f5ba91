"""Helpers for vLLM's processes, whether it runs in this process or as a server.

Settings for CPUs, log files, a watchdog that stops them when this process dies, and readable causes of failure.
"""

import contextlib
import gc
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from localemp.engines.vllm.versions import CPU_PACKAGE, vllm_package
from localemp.utils.files import has_room
from localemp.utils.machine import gpu
from localemp.utils.paths import cache_dir
from localemp.utils.text import one_line, well_formed

CPU_KV_CACHE_BYTES = 4 * 2**30
_DEFAULT_SHARE = 0.92  # share of a GPU's memory that vLLM takes by default
_CONTEXT_SHARE = 0.02  # share that another process's CUDA context takes
SMALL_MACHINE = 4  # cores


def new_log(kind: str = "vllm") -> Path:
    """Return the path of a new log file: in localemp's cache, or in a temporary folder if that takes no more files."""
    folder = cache_dir("logs")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not has_room(folder):
        folder = Path(tempfile.mkdtemp(prefix="localemp-"))
    return folder / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


CPU_SEEDS = "localemp.engines.vllm.cpu_seeds.Seeds"
"""The extension of vLLM's worker that lets requests have seeds on CPUs; the one for adapters includes it."""


def cpu_defaults() -> dict[str, Any]:
    """Return engine arguments for CPUs: no compilation (minutes for a few percent), and a size of the KV cache."""
    if (os.cpu_count() or 1) <= SMALL_MACHINE:  # vLLM would reserve a core for the server, half of a machine with two
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    if "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return {"enforce_eager": True}
    return {"enforce_eager": True, "kv_cache_memory_bytes": CPU_KV_CACHE_BYTES}


def gpu_in_use() -> bool:
    """Return whether this process, that of encoder and COMET, uses a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def spawns() -> bool:
    """Return whether vLLM's engine will be a new Python process, which imports the main script, rather than a fork."""
    told = os.environ.get("VLLM_WORKER_MULTIPROC_METHOD")
    return told == "spawn" or gpu_in_use() or vllm_package() == CPU_PACKAGE or gpu() == "none"


def free_gpu_share(lookups_follow: bool = False) -> dict[str, Any]:
    """Return the share of GPU memory that encoder and COMET leave to vLLM, which does not start if less is free.

    Args:
        lookups_follow: Whether they keep the memory that torch has set aside for their work, not only their weights.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    if not lookups_follow:
        gc.collect()
        torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    share = math.floor(100 * free / total) / 100 - _CONTEXT_SHARE
    return {"gpu_memory_utilization": round(share, 2)} if share < _DEFAULT_SHARE else {}


def stop_on_exit(processes: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start a watchdog that stops vLLM's processes if this one is killed; they would keep their memory forever.

    Args:
        processes: Process ids; a negative id is a process group.
    """
    pids = " ".join(map(str, processes))
    # `cat` exits when its pipe is closed, however this process ended.
    script = f"cat > /dev/null; kill -s TERM -- {pids}; sleep 10; kill -s KILL -- {pids}"
    return subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def known_cause(log: str, option: Callable[[str], str]) -> tuple[str, str] | None:
    """Return a common cause that the log shows, as message and hint; None if it shows none.

    Args:
        log: Text of vLLM's log.
        option: Maps the name of a vLLM option ("max_model_len") to how a user sets it.
    """
    if short := _TOO_LITTLE_KV.search(log):
        length, needed, available = short.groups()
        return (
            f"not enough memory for the KV cache: a context of {length} tokens needs {needed} GiB, "
            f"{available} GiB are available",
            f"set {option('max_model_len')} below {length}, or raise {option('gpu_memory_utilization')} "
            f"(GPU) or {option('kv_cache_memory_bytes')} (CPU)",
        )
    if short := _TOO_LITTLE_RAM.search(log):
        available, total, wanted = short.groups()
        return (
            f"not enough memory for the KV cache: {wanted} GiB requested, {available} of {total} GiB free",
            f"lower {option('kv_cache_memory_bytes')}, or close other programs",
        )
    if short := _TOO_LITTLE_GPU.search(log):
        free, total, share, wanted = short.groups()
        return (
            f"not enough GPU memory: {wanted} GiB requested (a share of {share}), {free} of {total} GiB free",
            f"lower {option('gpu_memory_utilization')}, or close other programs on the GPU",
        )
    if _NO_GPU in log:
        return (
            "this build of vLLM finds no usable GPU",
            "check nvidia-smi, or install the CPU build: pip uninstall vllm; pip install 'localemp[cpu]'",
        )
    if lacking := _NO_KERNEL.search(log):
        return (
            f"this build of vLLM has no {lacking[1]}, which these settings need",
            f"with {option('quantization')} take another method: on a CPU fp8_per_channel, or a checkpoint in INT8",
        )
    if _KILLED.search(log):
        return (
            "its engine process was killed, as Linux does when memory runs out",
            f"close other programs, or lower {option('max_model_len')} or {option('kv_cache_memory_bytes')}",
        )
    return None


def first_error(log: str) -> str:
    """Return the first error in vLLM's log, of which later ones are consequences; empty if there is none."""
    found = _EXCEPTION.search(log) or _ERROR.search(log)
    if found is None:
        return ""
    detail = _VALIDATION.match(log, found.start(1))  # pydantic gives the reason on the next line
    return (detail or found).group(1).strip()


def reason(error: BaseException) -> str:
    """Return the message of a vLLM exception in one line; if it is empty, that of its cause."""
    while not str(error).strip() and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(well_formed(" ".join(lines[:3])), 300) or type(error).__name__


# Atomic groups anchored at the start: if the rest is missing after the first match, no other start is tried.
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
_NO_KERNEL = re.compile(r"\b_C::(\w+)\(\) expected at most 0 argument")  # only declared, as in the CPU build
_KILLED = re.compile(r"Failed core proc\(s\): \{[^{}]*: -9\b")
# Warnings may quote an exception in the middle of a line; raised ones are at its start.
_PROCESS, _LOGGED = r"^(?:\(\S+ pid=\d+\) )?", r"(?:ERROR|CRITICAL) \S+ \S+ \[[^\]\n]*\] "
_EXCEPTION = re.compile(rf"{_PROCESS}(?:{_LOGGED})?[\w.]*(?:Error|Exception): (.+)", re.MULTILINE)
_ERROR = re.compile(rf"{_PROCESS}{_LOGGED}(.+)", re.MULTILINE)
_VALIDATION = re.compile(r"\d+ validation errors? for .*\n.*?  (?:\w+ error, )?(\S.+?)(?: \[type=.*)?$", re.MULTILINE)
