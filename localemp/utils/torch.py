"""PyTorch and transformers as localemp uses them: the device to compute on, and no progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from localemp.errors import OptionError


def pick_device(name: str | None) -> torch.device:
    """The device of that name; where none is named, "cuda" if there is one, else "cpu".

    Raises:
        OptionError: torch does not have it; says why.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled with CUDA
        reason = str(error).splitlines()[0]
        raise OptionError(f"device {name!r} cannot be used: {reason}", "leave the device out, or say cpu") from error
    return device


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars while a model is loaded; afterwards as before."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
