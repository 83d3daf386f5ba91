"""`knowledge`: commonsense inferences of the dialogue context as additional content (section 3.3.3, Eq. 6 to 9)."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localemp.batching import MicroBatcher
from localemp.commonsense.relations import Inferences
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.strategies.base import Draft, Enricher

if TYPE_CHECKING:
    from localemp.commonsense.comet import Comet
    from localemp.commonsense.store import KnowledgeStore


class Knowledge(Enricher):
    """Inferences from a file made beforehand, else from COMET on the fly.

    Args:
        event: How a dialogue becomes COMET's event: the whole context (paper) or the last utterance (released code).
        settings: What the manifest records of file and checkpoint.
        store: Inferences made beforehand.
        comet: Infers what the store does not have.
    """

    def __init__(
        self,
        event: Callable[[Dialogue], str],
        settings: dict[str, Any],
        store: "KnowledgeStore | None" = None,
        comet: "Comet | None" = None,
    ) -> None:
        self.event, self.settings, self.store = event, settings, store
        self.batcher: MicroBatcher[str, Inferences] | None = None if comet is None else MicroBatcher(comet.infer)

    async def enrich(self, draft: Draft) -> Draft:
        """The inferences of the dialogue."""
        found = self.store.find(draft.dialogue) if self.store else None
        if found is None and self.batcher is not None:
            found = await self.batcher.submit(self.event(draft.dialogue))
        return replace(draft, inferences=found)

    def check(self, dialogue: Dialogue) -> None:
        """Without COMET, the file must have the dialogue."""
        if self.batcher is None and (self.store is None or self.store.find(dialogue) is None):
            raise OptionError(
                f"no commonsense inferences for dialogue {dialogue.id!r}",
                "give a COMET checkpoint with --comet, or a --knowledge file that has them",
            )

    def describe(self) -> dict[str, Any]:
        """Hashes of file and checkpoint, and how events are written."""
        return self.settings
