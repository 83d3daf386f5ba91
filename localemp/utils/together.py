"""Runs coroutines at once, all or none."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once, and return their results in order.

    If one fails, or this is cancelled, the others are cancelled; none is left behind.

    Raises:
        Exception: That of the first coroutine that failed.
        CancelledError: Ctrl-C ended one of them, and with it the event loop's run.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(error, KeyboardInterrupt):  # it has left the loop; once more, and it would end the cleaning up
            raise asyncio.CancelledError from error
        raise
