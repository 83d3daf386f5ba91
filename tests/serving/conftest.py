"""Two upstreams that do as a test tells them, and a test's own app over a real socket."""

from collections.abc import Iterator

import openai
import pytest
from model_app import served
from starlette.types import ASGIApp
from upstream_server import FakeUpstream

from localemp.strategies.registry import PARTS


@pytest.fixture(scope="module")
def one() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def fresh(one: FakeUpstream, other: FakeUpstream) -> None:
    """Both have forgotten earlier requests, and answer as usual."""
    one.reset()
    other.reset()


@pytest.fixture
def parts_as_before() -> Iterator[None]:
    """Flows that a test has registered are gone after it."""
    before = dict(PARTS)
    yield
    PARTS.clear()
    PARTS.update(before)


@pytest.fixture
def url(app: ASGIApp) -> Iterator[str]:
    """The address of `app`, which the test's module defines."""
    with served(app) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """The official client, which asks once."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client
