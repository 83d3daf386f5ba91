"""Hides packages that were built for another PyTorch, and would break every import of transformers.

vLLM's CPU build requires torchvision, torchaudio and torchcodec. pip takes those of its index, which are built for
CUDA; they cannot be imported beside a PyTorch for the CPU, and transformers imports whatever is installed. localemp
needs none of them.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
_BUILD = re.compile(r"__version__ = '[^'+]*+\+([a-z]++)")


def hide_mismatched_builds() -> None:
    """Make companions of PyTorch look as if they were not installed, if they are for CUDA and PyTorch is for the CPU.

    Processes that vLLM spawns do the same, since they import the script that started them.
    """
    if _build("torch") != "cpu":
        return
    for package in _COMPANIONS:
        if package not in sys.modules and _build(package) not in ("cpu", ""):
            sys.modules[package] = None  # type: ignore[assignment]  # how Python marks what must not be imported


def _build(package: str) -> str:
    """Return what an installed package was built for, by its version: "cpu", "cu", "rocm"; empty if it does not say."""
    try:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return ""
        found = _BUILD.search(Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""
