"""Bounds the compiled kernels that torch keeps on a CPU.

oneDNN compiles kernels for every shape of a matrix product, and texts have hundreds of lengths. oneDNN keeps the last
1,024, and torch keeps as many again in every thread: more than a gigabyte. Texts that follow one another have similar
lengths, so a few kernels are enough; results are the same.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Both are read when a thread first computes.
_LIMITS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
_set: dict[str, str] = {}  # those that this process has set itself


def keep_few_kernels() -> None:
    """Keep few kernels in this process, unless the environment says how many."""
    _set.update({name: value for name, value in _LIMITS.items() if name not in os.environ})
    os.environ.update(_set)


@contextmanager
def usual_kernels() -> Iterator[None]:
    """Let processes that are started inside the block keep torch's usual number of kernels."""
    for name in _set:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.update(_set)
