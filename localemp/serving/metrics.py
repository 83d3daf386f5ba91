"""The metrics of strategies, which `/metrics` shows besides vLLM's own.

The label `adapter` is empty for the model as it is, which is the same as no label to Prometheus.
"""

from collections.abc import Awaitable
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

from localemp.strategies.base import Response
from localemp.strategies.strategy import Strategy

T = TypeVar("T")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

REQUESTS = Counter("localemp_requests", "Requests for a strategy.", ["strategy", "adapter"])
ERRORS = Counter(
    "localemp_errors", "Requests for a strategy that ended with an error.", ["strategy", "adapter", "status"]
)
GONE = Counter(
    "localemp_clients_gone",
    "Requests whose client disconnected before the response was complete.",
    ["strategy", "adapter"],
)
SECONDS = Histogram(
    "localemp_step_seconds", "Time in a step of a strategy.", ["strategy", "adapter", "step"], buckets=_SECONDS
)
TOKENS = Counter("localemp_tokens", "Tokens of all stages.", ["strategy", "adapter", "kind"])
THINKING = Counter(
    "localemp_thinking_tokens", "Those tokens of completions that were thinking.", ["strategy", "adapter"]
)
QUEUE = Gauge(
    "localemp_lookups_waiting",
    "Lookups that waited for the encoder (similar) or COMET (knowledge) when last counted.",
    ["part"],
    multiprocess_mode="livesum",
)


def count_response(strategy: str, adapter: str, response: Response, lookup: float) -> None:
    """Count an answered request.

    Args:
        strategy: The strategy's name.
        adapter: The adapter's; empty for none.
        response: The response, with its stages.
        lookup: Seconds until exemplars and inferences were there.
    """
    SECONDS.labels(strategy, adapter, "lookup").observe(lookup)
    for stage in response.stages:
        SECONDS.labels(strategy, adapter, stage.name).observe(stage.completion.seconds)
        TOKENS.labels(strategy, adapter, "prompt").inc(stage.completion.prompt_tokens or 0)
        TOKENS.labels(strategy, adapter, "completion").inc(stage.completion.completion_tokens or 0)
        THINKING.labels(strategy, adapter).inc(stage.completion.thinking_tokens or 0)


async def count_waiting(strategy: Strategy, lookup: Awaitable[T]) -> T:
    """Await a lookup; count those that wait before and after it."""
    _set_queues(strategy)
    try:
        return await lookup
    finally:
        _set_queues(strategy)


def _set_queues(strategy: Strategy) -> None:
    for enricher in strategy.enrichers:
        for part, waiting in enricher.waiting().items():
            QUEUE.labels(part).set(waiting)
