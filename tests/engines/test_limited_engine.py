"""The engine against the fake service: real requests, limits in headers, faults."""

import asyncio
from typing import Any

import pytest
from hosted import Faults, HostedService, Limits
from patience import patience

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import OpenAIEngine
from localemp.errors import EngineError
from localemp.sampling import Sampling

MODEL, GREEDY = "gpt-4o-mini", Sampling(max_tokens=20)


def engine_for(service: HostedService, **options: Any) -> OpenAIEngine:
    return OpenAIEngine(MODEL, service.url, api_key="sk-fake", **options)


async def ask_all(engine: OpenAIEngine, number: int) -> list[Completion]:
    asked = (engine.chat([Message("user", f"Number {each} is sad.")], GREEDY) for each in range(number))
    return await asyncio.wait_for(asyncio.gather(*asked), patience(120))


async def test_limits_in_headers_are_kept_and_shown() -> None:
    with HostedService(
        limits=Limits(requests=1200, burst=6)
    ) as service:  # a twentieth of what is told is there at first
        async with engine_for(service) as engine:
            assert engine.status() == ""
            await ask_all(engine, 140)
            assert engine.status() == "1,200 requests/min allowed, 0 in flight"
    assert len(service.completions_of()) - 140 <= 40  # until it is known that less is there than told


async def test_nothing_is_lost_with_every_fault() -> None:
    with HostedService(limits=Limits(requests=60_000), faults=Faults.all(0.05, seed=3)) as service:
        async with engine_for(service, timeout=patience(1.0), sleep=lambda _: asyncio.sleep(0.05)) as engine:
            answers = await ask_all(engine, 100)
    assert all(answer.text for answer in answers)
    faults = {each.fault for each in service.completions_of() if each.fault}
    assert faults == {"rate_limit", "rate_limit_wait", "server_error", "reset", "hang", "cut"}
    # Each request is answered once; what was answered and lost on the way is not our doing.
    assert sum(each.status == 200 and not each.fault for each in service.completions_of()) == 100


async def test_engines_of_one_key_and_model_share_what_they_know() -> None:
    with HostedService(limits=Limits(requests=500)) as service:
        async with engine_for(service) as first, engine_for(service) as second:
            await ask_all(first, 3)
            await ask_all(second, 1)
            assert first.status() == second.status() == "500 requests/min allowed, 0 in flight"
        async with OpenAIEngine("gpt-4o", service.url, api_key="sk-fake") as other:
            await ask_all(other, 1)
            assert other.status() == "500 requests/min allowed, 0 in flight"
    assert len(service.completions_of()) == 5


async def test_refusals_tell_the_limits_too() -> None:
    with HostedService(limits=Limits(requests=600), faults=Faults({"rate_limit": 1.0})) as service:
        async with engine_for(service, max_retries=0) as engine:
            with pytest.raises(EngineError, match="keeps limiting requests"):
                await ask_all(engine, 1)
            assert engine.status() == "600 requests/min allowed, 0 in flight"


async def test_a_request_above_a_whole_minutes_limit_is_not_asked_again() -> None:
    with HostedService(limits=Limits(tokens=1000)) as service:
        async with engine_for(service) as engine:
            with pytest.raises(EngineError, match="takes no request of this size"):
                await engine.chat([Message("user", "I lost my job.")], Sampling(max_tokens=2000))
            await ask_all(engine, 2)
    assert [each.status for each in service.completions_of()] == [429, 200, 200]
