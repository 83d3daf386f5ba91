"""The seconds that the encoder and COMET have computed in this process; `localemp bench` reads them."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: defaultdict[str, float] = defaultdict(float)
_lock = threading.Lock()


@contextmanager
def count_seconds(part: str) -> Iterator[None]:
    """Add the seconds of a `with` block to a part's total: "encoder", "comet"."""
    started = time.perf_counter()
    try:
        yield
    finally:
        with _lock:
            _seconds[part] += time.perf_counter() - started


def computed_seconds() -> dict[str, float]:
    """Return the seconds so far, by part; subtract two calls for the time between them."""
    with _lock:
        return dict(_seconds)
