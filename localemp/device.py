"""Which device encoder and COMET compute on."""

import torch

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
