"""A view of an engine that tells a reply while it is written, cleaned as the whole reply will be."""

from collections.abc import Callable, Sequence

from localemp.dialogue import Message
from localemp.engines.base import ON_TEXT, Completion, Engine
from localemp.engines.forwarding import ForwardingEngine
from localemp.sampling import Sampling
from localemp.strategies.cleaning import Cleaner
from localemp.utils.text import PairJoiner


class StreamedReply(ForwardingEngine):
    """Answers the last stage of a strategy. Candidates are not told: only one of them will be the reply.

    Args:
        engine: The engine, which is started and closed by others. One that cannot stream tells nothing.
        on_text: Called with pieces of the reply.
        trims: Whether a truncated reply is cut at its last whole sentence.
    """

    def __init__(self, engine: Engine, on_text: Callable[[str], object], *, trims: bool = False) -> None:
        super().__init__(engine)
        self._on_text, self._trims = on_text, trims

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`."""
        cleaner, pairs = Cleaner(trims=self._trims), PairJoiner()

        def tell(text: str) -> None:
            if clean := cleaner.feed(pairs.feed(text)):
                self._on_text(clean)

        token = ON_TEXT.set(tell)
        try:
            return await self.engine.chat(messages, sampling)
        finally:
            ON_TEXT.reset(token)
