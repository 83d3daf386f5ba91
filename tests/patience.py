"""How long tests wait: a deadline costs nothing where a test passes, so all are generous, most on a busy machine."""

import os
import subprocess
import time
from collections.abc import Callable

VARIABLE = "LOCALEMP_TEST_PATIENCE"


def patience(seconds: float = 60) -> float:
    """Return a deadline: the seconds of a quiet machine, times `$LOCALEMP_TEST_PATIENCE`, times how busy it is now."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * float(os.environ.get(VARIABLE) or 1) * max(1, waiting)


def wait_until(
    condition: Callable[[], object], seconds: float = 60, process: "subprocess.Popen[str] | None" = None
) -> float:
    """Wait for a condition; fail at the deadline, or when the process that should bring it about has ended.

    Returns:
        The seconds that it took.
    """
    began, most = time.monotonic(), patience(seconds)
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() - began < most, "it never became true"
        time.sleep(0.005)
    return time.monotonic() - began
