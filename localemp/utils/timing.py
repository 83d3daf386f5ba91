"""Where time goes: the seconds that encoder and COMET have computed in this process. `localemp bench` reads them."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: defaultdict[str, float] = defaultdict(float)
_lock = threading.Lock()


@contextmanager
def spending(part: str) -> Iterator[None]:
    """Count the seconds of this block, which computes something whole: "encoder", "comet"."""
    started = time.perf_counter()
    try:
        yield
    finally:
        with _lock:
            _seconds[part] += time.perf_counter() - started


def spent() -> dict[str, float]:
    """Seconds so far, by part; the difference of two calls is what lies between."""
    with _lock:
        return dict(_seconds)
