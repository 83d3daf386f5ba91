"""Running coroutines from synchronous code."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from localemp.errors import OptionError

T = TypeVar("T")


def run_here(work: Coroutine[Any, Any, T], instead: str) -> T:
    """Run a coroutine to its end.

    Args:
        work: The coroutine.
        instead: The hint if an event loop is already running, such as "await generate_async(...)".

    Raises:
        OptionError: An event loop is already running in this thread, as in a notebook or an asynchronous function.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise OptionError("an event loop is running in this thread (a notebook, or an asynchronous function)", instead)
