"""Packages that `pip install localemp` leaves out, and the exact command that installs them here."""

import os
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from localemp.errors import MissingPackageError
from localemp.utils.json_reader import JSONError, parse_json

Extra = Literal["models", "cpu", "gpu", "serve", "ray", "study", "parquet"]

PACKAGES: dict[Extra, tuple[str, ...]] = {
    "models": ("torch", "transformers", "sentence_transformers", "accelerate"),
    "serve": ("starlette", "uvicorn", "aiohttp", "prometheus_client"),
    "ray": ("ray",),
    "study": ("krippendorff", "scipy", "statsmodels"),
    "parquet": ("pyarrow",),
}
"""What an extra brings, by the names that are imported. The engines' extras are known by `engines/vllm/versions.py`."""


def require(extra: Extra, what: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        extra: The extra that brings them.
        what: Who needs them, such as "`localemp study serve`".
        *packages: Names that are imported; by default all of the extra.

    Raises:
        MissingPackageError: One is not installed; the hint installs it.
    """
    missing = [name for name in packages or PACKAGES[extra] if find_spec(name) is None]
    if missing:
        *others, last = missing
        listed = f"{', '.join(others)} and {last}" if others else last
        raise MissingPackageError(f"{what} needs {listed}, not installed here", install_command(extra))


def extra_of(package: str) -> Extra | None:
    """Return the extra that brings a package; None if localemp has none for it."""
    return next((extra for extra, packages in PACKAGES.items() if package in packages), None)


def engine_extra() -> Extra:
    """Return the extra with vLLM's build for this machine."""
    return "gpu" if shutil.which("nvidia-smi") else "cpu"


def install_command(extra: Extra) -> str:
    """Return the command that installs an extra into the environment of this process."""
    folder, requirement = _origin(extra)
    if folder and extra in ("cpu", "gpu"):
        return f"make -C {folder} demo"
    if extra == "cpu" and not os.environ.get("PIP_FIND_LINKS"):
        # vLLM's CPU build needs PyTorch's, which is on PyTorch's own index; uv knows it by name.
        return f"pip install uv && uv pip install --python {sys.executable} --torch-backend cpu {requirement}"
    beside = shutil.which("pip")
    same = beside is not None and Path(beside).parent == Path(sys.executable).parent
    return f"{'pip' if same else f'{sys.executable} -m pip'} install {requirement}"


def _origin(extra: Extra) -> tuple[str, str]:
    """Return the checkout that was installed, if it was one, and localemp with the extra as pip is told."""
    try:
        told = distribution("localemp").read_text("direct_url.json")
        origin = parse_json(told) if told else {}
    except (PackageNotFoundError, JSONError):
        origin = {}
    url = origin.get("url") if isinstance(origin, dict) else None
    if not isinstance(url, str) or not url.startswith("file://"):
        return "", f"'localemp[{extra}]'"
    if (origin.get("dir_info") or {}).get("editable"):
        folder = unquote(url.removeprefix("file://"))
        return shlex.quote(folder), f"--editable {shlex.quote(f'{folder}[{extra}]')}"
    return "", f"'localemp[{extra}] @ {url}'"
