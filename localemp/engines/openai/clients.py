"""HTTP clients that share the requests to a server: what a client takes for each one grows with its connections."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import openai

REQUESTS = 16
"""Most requests in flight of one client."""


class Clients:
    """As many clients as the requests in flight need.

    Args:
        make: Makes a client.
    """

    def __init__(self, make: Callable[[], openai.AsyncOpenAI]) -> None:
        self._make = make
        self._in_flight: dict[openai.AsyncOpenAI, int] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[openai.AsyncOpenAI]:
        """Have a client for one request: the first that has room, so that its connections are used again."""
        client = next((each for each, number in self._in_flight.items() if number < REQUESTS), None) or self._make()
        self._in_flight[client] = self._in_flight.get(client, 0) + 1
        try:
            yield client
        finally:
            self._in_flight[client] -= 1

    async def close(self) -> None:
        """Close all connections."""
        for client in self._in_flight:
            await client.close()
