"""How long a response is awaited can change while it is awaited."""

import asyncio

import pytest
from virtual_time import run_virtually

from localemp.engines.openai.connection import within


async def waited(first: float, later: float) -> float:
    """When a wait without an answer ends, if its limit changes after half a minute."""
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with within(lambda: first if loop.time() < 30 else later):
            await asyncio.sleep(3600)
    return loop.time()


@pytest.mark.parametrize(
    ("first", "later", "ends"),
    [(20, 20, 20), (600, 20, 30), (600, 40, 40), (40, 600, 600)],
    ids=["the same", "over at once", "fewer", "more"],
)
def test_the_limit_is_the_latest_one(first, later, ends):
    assert run_virtually(waited(first, later)) == pytest.approx(ends)


def test_an_answer_in_time_is_no_error():
    async def answered() -> float:
        async with within(lambda: 20.0):
            await asyncio.sleep(19)
        await asyncio.sleep(60)  # nobody looks any more
        return asyncio.get_running_loop().time()

    assert run_virtually(answered()) == pytest.approx(79)
