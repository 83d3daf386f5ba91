"""Helpers for PyTorch and transformers: choosing a device, hiding progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from localemp.errors import OptionError
from localemp.utils.kernels import keep_few_kernels

keep_few_kernels()  # before anything is computed


def pick_device(name: str | None) -> torch.device:
    """Return the device of this name; by default "cuda" if available, else "cpu".

    Raises:
        OptionError: torch cannot use the device; says why.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was compiled without CUDA
        reason = str(error).splitlines()[0]
        raise OptionError(f"device {name!r} cannot be used: {reason}", "omit the device, or use cpu") from error
    return device


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars inside the block."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
