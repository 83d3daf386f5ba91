"""The strategies that a server offers, each built once, when it is first asked for."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import Any

from localemp.errors import LocalempError
from localemp.models.thinking_mode import ThinkingMode
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.flow import FACTS
from localemp.sampling import Sampling
from localemp.serving.errors import RequestError
from localemp.serving.names import ModelNames
from localemp.serving.schema import RequestOptions
from localemp.strategies.flows import GIVEN_FACTS
from localemp.strategies.registry import find_part, strategy_options
from localemp.strategies.strategy import Strategy


class Catalog:
    """Strategies by name.

    Args:
        names: The names of the model, its adapters and the offered strategies.
        config: The settings that all strategies share, whatever the adapter, which is the wrapped app's.

    Attributes:
        about: One line on each strategy.
        keep_thinking: Whether replies keep the model's thinking, as it wrote it.
        trims: Whether truncated replies are cut at their last whole sentence.
    """

    def __init__(self, names: ModelNames, config: RunConfig) -> None:
        self.names, self.strategies = names, names.strategies
        self.about = {name: "; ".join(find_part(part).about for part in name.split("+")) for name in self.strategies}
        self.keep_thinking, self.trims = config.keep_thinking, config.trim_to_sentence
        # Where known facts choose another form of the flow.
        self._have_forms = {name for name in self.strategies if GIVEN_FACTS in strategy_options(name)}
        self._pipeline = Pipeline(config)
        self._built: dict[tuple[Any, ...], Strategy] = {}
        self._lock = Lock()

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that the model's profile and the operator's choices add to every body."""
        kwargs, pipeline = dict(self.thinking.template_options), self._pipeline
        return {**pipeline.profile.request, **pipeline.request, **({"chat_template_kwargs": kwargs} if kwargs else {})}

    @property
    def sampling(self) -> Sampling:
        """The sampling parameters of the strategies' stages, as far as neither a flow nor a request has others."""
        return self._pipeline.sampling

    @property
    def thinking(self) -> ThinkingMode:
        """Whether the model thinks before it replies, and how long."""
        return self._pipeline.thinking

    @property
    def is_vllm(self) -> bool:
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
            RequestError: It cannot be built with these options, or needs a fact that the request lacks.
        """
        name = "+".join(names)
        strategy = self._built.get(self._key(name, options))
        if strategy is None:
            try:
                strategy = await asyncio.to_thread(self._build, name, options)
            except LocalempError as error:
                raise RequestError(error.with_hint, "localemp") from error
        self._check_facts(name, strategy.flow.facts, options)
        return strategy

    def _check_facts(self, name: str, shown: Sequence[str], options: RequestOptions) -> None:
        for fact in FACTS:
            if fact in shown and fact not in options.given:
                message = f"the strategy {name} needs the dialogue's {fact}: send 'localemp': {{{fact!r}: \"...\"}}"
                raise RequestError(message, f"localemp.{fact}", "missing_required_parameter")
            if fact in options.given and fact not in shown and name not in self._have_forms:
                message = f"{fact!r} is for two-stage, and flows that show it; the strategy is {name}"
                raise RequestError(message, f"localemp.{fact}")

    def _build(self, name: str, options: RequestOptions) -> Strategy:
        with self._lock:
            key = self._key(name, options)
            if key not in self._built:
                chosen = options.of_parts | {GIVEN_FACTS.name: self._given(name, options) or None}
                self._built[key] = self._pipeline.vary(name, options.variant, **chosen).strategy
            return self._built[key]

    def _given(self, name: str, options: RequestOptions) -> tuple[str, ...]:
        return options.given if name in self._have_forms else ()

    def _key(self, name: str, options: RequestOptions) -> tuple[Any, ...]:
        return name, options.variant, self._given(name, options), *options.of_parts.items()
