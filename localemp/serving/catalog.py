"""The strategies that a server offers, each built once, when it is first asked for."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import Any

from localemp.errors import LocalempError
from localemp.models.thinking_mode import ThinkingMode
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.errors import RequestError
from localemp.serving.names import ModelNames
from localemp.serving.schema import RequestOptions
from localemp.strategies.strategy import Strategy


class Catalog:
    """Strategies by name.

    Args:
        names: The names of the model, its adapters and the offered strategies.
        config: The settings that all strategies share, whatever the adapter, which is the wrapped app's.

    Attributes:
        keep_thinking: Whether replies keep the model's thinking, as it wrote it.
    """

    def __init__(self, names: ModelNames, config: RunConfig) -> None:
        self.names, self.strategies = names, names.strategies
        self.keep_thinking = config.keep_thinking
        self._pipeline = Pipeline(config)
        self._built: dict[tuple[Any, ...], Strategy] = {}
        self._lock = Lock()

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that the model's profile adds to every body."""
        kwargs = dict(self.thinking.template_options)
        return {**self._pipeline.profile.request, **({"chat_template_kwargs": kwargs} if kwargs else {})}

    @property
    def thinking(self) -> ThinkingMode:
        """Whether the model thinks before it replies, and how long."""
        return self._pipeline.thinking

    @property
    def bounds_thinking(self) -> bool:
        """Whether the server is vLLM's as we start it, which is told the marks of the model's thinking."""
        return self._pipeline.runs_here

    def prepare(self) -> None:
        """Load what the strategies look things up in, and try it, so that the first client need not wait."""
        for name in self.strategies:
            for enricher in self._build(name, RequestOptions()).enrichers:
                asyncio.run(enricher.warm_up())

    async def strategy(self, names: Sequence[str], options: RequestOptions) -> Strategy:
        """Return the strategy for a request.

        Raises:
            RequestError: It is not offered, or cannot be built with these options.
        """
        name = "+".join(names)
        if name not in self.strategies:
            raise RequestError(
                f"this server does not offer the strategy {name!r}; it offers: {', '.join(self.strategies)}",
                "model",
                "model_not_found",
                404,
            )
        if built := self._built.get(_key(name, options)):
            return built
        try:
            return await asyncio.to_thread(self._build, name, options)
        except LocalempError as error:
            raise RequestError(error.with_hint, "localemp") from error

    def _build(self, name: str, options: RequestOptions) -> Strategy:
        with self._lock:
            key = _key(name, options)
            if key not in self._built:
                self._built[key] = self._pipeline.vary(name, options.variant, **options.of_parts).strategy
            return self._built[key]


def _key(name: str, options: RequestOptions) -> tuple[Any, ...]:
    return name, options.variant, *options.of_parts.items()
