"""What tests ask of other processes."""

import psutil


def command_line(process: psutil.Process) -> list[str]:
    """Empty for one that has ended, collected by its parent or not, as an earlier test may leave them."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie's error is one of these too
        return []
