"""What all batches at one service share: how it is asked, how long is waited, and which of them are under way."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from localemp.engines.openai.batch.api import BatchAPI
from localemp.errors import EngineError
from localemp.protocol.errors import ResponseError


@dataclass(frozen=True, slots=True)
class Timing:
    """How long is waited for what, in seconds.

    Attributes:
        lull: Without a further request, until those that have come become a batch; doubled for each further one while
            others are under way.
        longest_lull: The most that becomes of it.
        poll: Until a batch is looked at for the second time; longer each time.
        longest_poll: The most that becomes of it.
        silence: For how long a service may fail to answer before it is given up. Batches take a day, and a laptop
            sleeps.
    """

    lull: float = 2.0
    longest_lull: float = 60.0
    poll: float = 1.0
    longest_poll: float = 60.0
    silence: float = 48 * 3600.0


def growing(first: float, most: float, factor: float) -> Iterator[float]:
    """Yield waits that grow up to a limit, forever."""
    while True:
        yield first
        first = min(first * factor, most)


@dataclass(slots=True)
class Service:
    """What all submissions to one service share.

    Attributes:
        api: Its files and batches.
        url: Its address, for messages.
        explain: Returns the error to raise for a failed call.
        timing: How long is waited.
        gate: Held while a batch is created and checked by the service, since one may be too many for its queue.
        ended: Set when a batch of ours has ended.
        in_progress: Names of our batches that the service works on.
    """

    api: BatchAPI
    url: str
    explain: Callable[[ResponseError], EngineError]
    timing: Timing = field(default_factory=Timing)
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    in_progress: set[str] = field(default_factory=set)
