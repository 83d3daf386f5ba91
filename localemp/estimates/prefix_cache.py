"""How many prompt tokens a prefix cache will hold, counted by playing through the requests of a run.

vLLM 0.32 caches the keys and values of full blocks of tokens. A block is found by a hash of its tokens and of all
tokens before it; a prompt profits from its longest chain of known blocks, and its last token is always computed. Blocks
are known from the moment a request is scheduled. They outlive their request; when memory is full, the one that was used
longest ago goes first. OpenAI's servers do the same in steps of 128 tokens, and not below 1,024.

Requests are played in the order in which they are sent: `concurrency` dialogues are open at once, `at_once` requests
are computed at once, and the oldest of them ends first. A dialogue's next stage goes before dialogues that were opened
later, as in the engine's own queue (`TURN` in engines/base.py).
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What a prefix cache does.

    Attributes:
        block: Tokens of a block; 0 if there is no cache.
        smallest: Tokens of the shortest prefix that is taken from the cache.
        capacity: Blocks in memory; None for a cache that holds everything.
        at_once: Requests computed at once.
        concurrency: Dialogues open at once.
    """

    block: int = 16
    smallest: int = 0
    capacity: int | None = None
    at_once: int = 256
    concurrency: int = 512


@dataclass(frozen=True, slots=True)
class Request:
    """What the cache has to know of a request.

    Attributes:
        tokens: Length of the prompt.
        reply_tokens: Length of the reply.
        blocks: Hashes of the full blocks of prompt and reply, as far as later requests can have the same ones; see
            `chain`.
    """

    tokens: int
    reply_tokens: int
    blocks: Sequence[int]


def chain(tokens: Sequence[Hashable], block: int, adapter: str = "") -> "array[int]":
    """Return the hash of every full block, each of which includes all tokens before it, and the adapter."""
    hashes, before = array("q"), hash(adapter) if adapter else 0
    for end in range(block, len(tokens) + 1, block):
        before = hash((before, *tokens[end - block : end]))
        hashes.append(before)
    return hashes


def cached_tokens(dialogues: Iterable[Sequence[Request]], rules: CacheRules) -> Iterator[tuple[int, int, int]]:
    """Yield how many prompt tokens of each request will come from the cache.

    Args:
        dialogues: The requests of each dialogue, which follow one another, in the order in which dialogues are started.
        rules: What the cache does.

    Yields:
        Numbers of the dialogue and of its request, and the tokens.
    """
    cache, fresh = _Cache(rules.capacity), count(1 << 63)
    pending = enumerate(dialogues)
    waiting: list[tuple[int, int, Sequence[Request]]] = []  # a heap
    running: deque[tuple[int, Sequence[Request], int, list[int]]] = deque()

    def start() -> bool:
        for number, requests in pending:
            if requests:
                heappush(waiting, (number, 0, requests))
                return True
        return False

    def end() -> None:
        number, requests, stage, keys = running.popleft()
        cache.release(keys)
        if stage + 1 < len(requests):
            heappush(waiting, (number, stage + 1, requests))
        else:
            start()

    while len(waiting) < rules.concurrency and start():
        pass
    while waiting or running:
        if not waiting or len(running) == rules.at_once:
            end()
            continue
        number, stage, requests = waiting[0]
        request = requests[stage]
        most = (request.tokens - 1) // rules.block if rules.block else 0
        found = cache.hits(request.blocks[:most])
        length = -(-(request.tokens + request.reply_tokens) // rules.block) if rules.block else 0
        keys = [*request.blocks[:length]]
        keys += [next(fresh) for _ in range(length - len(keys))]
        if running and not cache.has_room(keys):
            end()
            continue
        heappop(waiting)
        cache.hold(keys)
        running.append((number, requests, stage, keys))
        hit = found * rules.block
        yield number, stage, hit if hit >= rules.smallest else 0


class _Cache:
    """Blocks in memory: those of running requests, and free ones, which are reused from the longest unused on."""

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._held: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()

    def hits(self, keys: Iterable[int]) -> int:
        number = 0
        for key in keys:
            if key not in self._held and key not in self._free:
                break
            number += 1
        return number

    def has_room(self, keys: Iterable[int]) -> bool:
        if self._capacity is None:
            return True
        return len(self._held) + sum(key not in self._held for key in keys) <= self._capacity

    def hold(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._held[key] = self._held.get(key, 0) + 1
            self._free.pop(key, None)
        self._trim()

    def release(self, keys: Sequence[int]) -> None:
        for key in reversed(keys):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                # A cache without a limit needs no order, and no memory for what nobody can ask for again.
                if self._capacity is not None or key < 1 << 63:
                    self._free[key] = None
        self._trim()

    def _trim(self) -> None:
        while self._capacity is not None and self._free and len(self._held) + len(self._free) > self._capacity:
            self._free.popitem(last=False)
