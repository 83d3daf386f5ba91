"""Two upstreams that do as a test tells them."""

from collections.abc import Iterator

import pytest
from upstream_server import FakeUpstream


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
