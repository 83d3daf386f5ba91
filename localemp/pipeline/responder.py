"""Single replies, from Python or in the terminal: the same strategies without a run folder."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, cast

from localemp.dialogue import Dialogue
from localemp.engines.base import Engine
from localemp.errors import OptionError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.former import take_former
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.streamed_reply import StreamedReply
from localemp.strategies.base import Draft, OnStage, Response
from localemp.strategies.strategy import Strategy
from localemp.utils.progress import OnProgress, silent

# Enough for five exemplars and a long chat; a full context of 128k tokens would not fit most machines.
CHAT_CONTEXT = 4096


class Responder:
    """Answers single dialogues. Use it in an `async with` block; calls may overlap.

    Args:
        config: The configuration; alternatively, give its settings as keywords.
        on_progress: Called with bytes of weights fetched or verified, and with training dialogues embedded.
        **settings: Settings of `RunConfig`, such as `model="llama", strategy="two-stage"`.
    """

    def __init__(
        self,
        config: RunConfig | None = None,
        *,
        on_progress: OnProgress = silent,
        **settings: Unpack[RunSettings],
    ) -> None:
        config, on_progress = take_former(cast("dict[str, Any]", settings), config, on_progress)
        config = RunConfig.of(settings, config)
        if config.batch:
            raise OptionError("--batch: its answers can take a day, and a single reply is waited for", "omit --batch")
        self.pipeline = Pipeline(config, on_progress)
        self._engine: Engine | None = None

    @property
    def assembly(self) -> Pipeline:
        """The pipeline, by its name in version 0.1."""
        return self.pipeline

    def prepare(self) -> Strategy:
        """Fetch, verify and load everything but the engine, so that errors show before the slow start."""
        _ = self.pipeline.adapter
        return self.pipeline.strategy

    async def start(self) -> None:
        """Start the engine.

        Raises:
            LocalempError: Something required is missing or invalid; says what.
        """
        pipeline = self.pipeline
        pipeline.check_process()
        self.prepare()
        engine = pipeline.engine(min(CHAT_CONTEXT, pipeline.context_length) if pipeline.runs_here else None)
        await engine.start()
        self._engine = engine

    async def close(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __call__(
        self,
        said: str | Sequence[str] | Dialogue,
        *,
        on_text: Callable[[str], object] | None = None,
        on_draft: Callable[[Draft], object] | None = None,
        on_stage: OnStage | None = None,
    ) -> Response:
        """Return the response to a dialogue.

        Args:
            said: The speaker's text; or all turns so far, the speaker's first; or a dialogue.
            on_text: Called with pieces of the reply while it is written, if the engine can stream and the reply is not
                chosen among candidates. `Response.reply` is the whole reply in any case.
            on_draft: Called with what was looked up, before the first stage.
            on_stage: Called with each stage when it has run.

        Raises:
            OptionError: A turn is empty, or the listener spoke last.
            EngineError: The request failed.
        """
        if self._engine is None:
            raise OptionError("the responder is not open", "use `async with Responder(...) as respond:`")
        strategy, dialogue = self.pipeline.strategy, as_dialogue(said)
        last = None
        if on_text is not None and not strategy.keep_thinking:  # which would come before the reply
            last = StreamedReply(self._engine, on_text, trims=strategy.trim_to_sentence)
        draft = await strategy.draft(dialogue)
        if on_draft is not None:
            on_draft(draft)
        return await strategy.respond(draft, self._engine, last, on_stage)

    async def use(self, strategy: str) -> None:
        """Answer by another strategy from now on, with the same engine; what it looks things up in is loaded.

        Raises:
            LocalempError: There is no such strategy, or something that it needs cannot be fetched.
        """
        other = self.pipeline.vary(strategy)
        await asyncio.to_thread(lambda: other.strategy)
        self.pipeline = other


def as_dialogue(said: str | Sequence[str] | Dialogue) -> Dialogue:
    """Return a text, a list of turns or a dialogue as a dialogue.

    Raises:
        OptionError: A turn is empty, or the listener spoke last.
    """
    if isinstance(said, Dialogue):
        return said
    try:
        return Dialogue("talk", (said,) if isinstance(said, str) else tuple(said))
    except ValueError as error:
        raise OptionError(f"cannot answer this: {error}") from error
