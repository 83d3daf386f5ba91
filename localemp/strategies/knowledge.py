"""`knowledge`: adds commonsense inferences about the dialogue context (section 3.3.3, Eq. 6 to 9)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import ne
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.commonsense.events import paper_event
from localemp.commonsense.inferences import Beams
from localemp.commonsense.selection import Keep, Selection, select_all
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.models.atomic import RELATIONS
from localemp.strategies.base import CountTokens, Draft, Enricher
from localemp.strategies.parts import Part, PartContext
from localemp.utils.batching import MicroBatcher
from localemp.utils.option import Option
from localemp.utils.recent import Recent

if TYPE_CHECKING:
    from localemp.commonsense.source import InferenceSource
    from localemp.commonsense.store import KnowledgeStore

KNOWLEDGE_FILE = Option(
    name="knowledge",
    type=Path | None,
    help="knowledge: file of precomputed inferences (`localemp knowledge build`).",
    of_data=True,
)
COMET = Option(
    name="comet",
    type=str | None,
    help="knowledge: the COMET, comet-mini (default), comet-bart, a folder or a Hugging Face id.",
)
SELECT = Option(
    name="select",
    type=Keep | None,
    help="knowledge: use relevant inferences, on-topic ones whatever they feel, or all; default: the variant's.",
)

# Tokens of a chat model for each of COMET's, at most: both have vocabularies of English words.
_CHAT_TOKENS = 1.25

SelectInferences = Callable[[Sequence[str], Sequence[Beams]], list[Selection]]


class Knowledge(Enricher):
    """Takes inferences from a precomputed file, else from COMET and its cache, and selects among them.

    Args:
        event: Turns a dialogue into COMET's event: the whole context (paper) or the last utterance (released code).
        settings: The manifest's record of file, checkpoint and selection.
        store: Precomputed inferences.
        source: Infers what the store does not have.
        select: Selects inferences, given contexts and all inferences for them.
        shorten: Cuts contexts to the part that the selection can see.
        most: Most inferences of a relation that are selected; None if unknown.
    """

    def __init__(
        self,
        event: Callable[[Dialogue], str],
        settings: dict[str, Any],
        *,
        store: "KnowledgeStore | None" = None,
        source: "InferenceSource | None" = None,
        select: SelectInferences = select_all,
        shorten: Callable[[Sequence[str]], list[str]] = list,
        most: int | None = None,
    ) -> None:
        self.event, self.settings = event, settings
        self.store, self.source = store, source
        self.select, self.shorten, self.most = select, shorten, most
        self._found: Recent[Dialogue, Selection] = Recent()
        self.dialogues = self.cut_events = self.cut_contexts = 0
        self.batcher: MicroBatcher[Dialogue, Selection] = MicroBatcher(self._look_up)

    async def enrich(self, draft: Draft) -> Draft:
        """Add the selected inferences of the dialogue, and the dropped ones."""
        chosen = await self.batcher.submit(draft.dialogue)
        return replace(draft, inferences=chosen.kept, dropped=chosen.dropped)

    def longest(self, draft: Draft, count: CountTokens) -> Draft | None:
        """Add as many inferences as may be selected, all of them as long as COMET makes them."""
        if self.source is None or self.store is not None or self.most is None:
            return None
        text = " ".join(["word"] * int(_CHAT_TOKENS * self.source.settings["max_new_tokens"]))
        return replace(draft, inferences=dict.fromkeys(RELATIONS, (text,) * self.most))

    def remember(self, dialogues: int) -> None:
        """Keep the selected inferences of the last dialogues."""
        self._found.limit = max(self._found.limit, dialogues)

    async def prepare(self, dialogues: Sequence[Dialogue]) -> None:
        """Load COMET if the cache lacks an inference, and warm up the encoder."""
        await self.warm_up()
        missing = [dialogue for dialogue in dialogues if self.store is None or self.store.find(dialogue) is None]
        if self.source is not None and missing:
            await asyncio.to_thread(self.source.load_for, [self.event(dialogue) for dialogue in missing])

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if there is no COMET and the file does not have the dialogue."""
        if self.source is not None or (self.store is not None and self.store.find(dialogue) is not None):
            return
        made_of = ""
        if self.store is not None and self.store.header is not None:
            names = ("event", "split", "data_sha256")
            made_for = ", ".join(f"{name} {str(self.store.header.get(name))[:16]}" for name in names)
            made_of = f": {self.store.path} was made for other dialogues ({made_for})"
        raise OptionError(
            f"no commonsense inferences for dialogue {dialogue.id!r}{made_of}",
            "give a COMET with --comet, or a --knowledge file that has them (`localemp knowledge build`)",
        )

    def describe(self) -> dict[str, Any]:
        """Return hashes of file and checkpoint, the form of events, and the selection."""
        return self.settings

    def notes(self) -> dict[str, str]:
        """Return how many dialogues were too long for COMET or for the selection's encoder."""
        lines = {
            "knowledge events": (self.cut_events, "only the end fits COMET's encoder"),
            "knowledge contexts": (self.cut_contexts, "only the end was compared with inferences"),
        }
        return {
            about: f"knowledge: of {count} of {self.dialogues:,} dialogues {what}"
            for about, (count, what) in lines.items()
            if count
        }

    def count_anew(self) -> None:
        """Forget the dialogues that were too long."""
        self.dialogues = self.cut_events = self.cut_contexts = 0

    def waiting(self) -> dict[str, int]:
        """Return the number of dialogues that wait for COMET."""
        return {"comet": self.batcher.waiting}

    def forget(self, folder: Path) -> None:
        """Use an empty cache in this folder; the usual one is not changed."""
        self._found.clear()
        if self.source is not None:
            self.source = self.source.with_cache(folder / "inferences.sqlite")

    def _look_up(self, dialogues: Sequence[Dialogue]) -> list[Selection]:
        known = {dialogue: self._found.get(dialogue) for dialogue in dialogues}
        new = [dialogue for dialogue, chosen in known.items() if chosen is None]
        for dialogue, chosen in zip(new, self._choose(new), strict=True):
            known[dialogue] = chosen
            self._found.put(dialogue, chosen)
        return [chosen for chosen in (known[dialogue] for dialogue in dialogues) if chosen is not None]

    def _choose(self, dialogues: Sequence[Dialogue]) -> list[Selection]:
        if not dialogues:
            return []
        found = [self.store.find(dialogue) if self.store else None for dialogue in dialogues]
        missing = [dialogue for dialogue, beams in zip(dialogues, found, strict=True) if beams is None]
        if missing:
            assert self.source is not None, "`check` sees to it"
            made = self.source.infer([self.event(dialogue) for dialogue in missing])
            self.cut_events += sum(answer.cut > 0 for answer in made)
            answers = iter(made)
            found = [next(answers).beams if beams is None else beams for beams in found]
        whole = [paper_event(dialogue) for dialogue in dialogues]
        contexts = self.shorten(whole)
        self.dialogues += len(dialogues)
        self.cut_contexts += sum(map(ne, contexts, whole))
        return self.select(contexts, [beams for beams in found if beams is not None])


def _make(context: PartContext) -> Knowledge:
    asked = [context.option(option) for option in (KNOWLEDGE_FILE, COMET, SELECT)]
    return context.shared(("knowledge", context.template.sha256, *asked), lambda: _make_shared(context))


def _make_shared(context: PartContext) -> Knowledge:
    """Combine a precomputed file, a COMET, or both with the selection."""
    from localemp.commonsense.events import event_of
    from localemp.commonsense.source import open_source
    from localemp.commonsense.store import KnowledgeStore

    path, comet, texts = context.option(KNOWLEDGE_FILE), _comet(context), context.template.knowledge
    settings: dict[str, Any] = {"event": texts.event}
    store = KnowledgeStore.read(path) if path is not None else None
    source = None
    if comet is not None:
        source = context.shared(("comet", comet), lambda: open_source(comet, context.on_progress))
    if store is not None:
        store.check_settings({**settings, **(source.settings if source else {})})
        settings |= {"knowledge_sha256": store.digest}
    if source is not None:
        settings |= source.settings
    select, shorten, chosen = selection_of(context)
    event, settings = event_of(texts.event), settings | chosen
    most: int | None = texts.select.max_per_relation
    if _keep(context) == "all":
        most = source.settings["keep"] if source else None
    return Knowledge(event, settings, store=store, source=source, select=select, shorten=shorten, most=most)


def selection_of(
    context: PartContext,
) -> tuple[SelectInferences, Callable[[Sequence[str]], list[str]], dict[str, Any]]:
    """Return the selection, the function that shortens contexts for it, and its record for the manifest."""
    from localemp.commonsense.feelings import load_feelings
    from localemp.commonsense.selection import Selector

    keep, texts = _keep(context), context.template.knowledge.select
    if keep == "all":
        return select_all, list, {"select": keep}
    # float32: the model is small, and the selection should not depend on the processor.
    found, encoder = context.encoder(texts.encoder, "float32")
    # A run without `select_feelings_sha256` was made before feelings counted: `on-topic` resumes it.
    recorded = {"select": "relevant", "select_encoder": texts.encoder, "select_encoder_sha256": found.digest}
    feelings = load_feelings(texts.encoder, found.digest) if keep == "relevant" else None
    if feelings is not None:
        recorded |= {"select_feelings_sha256": feelings.sha256}
    return Selector(texts, encoder, feelings), encoder.ends, recorded


def _fetch(context: PartContext) -> None:
    if (comet := _comet(context)) is not None:
        context.weights(comet, "commonsense")
    if _keep(context) != "all":
        context.weights(context.template.knowledge.select.encoder, "encoder")


def _comet(context: PartContext) -> str | None:
    from localemp.commonsense.source import DEFAULT_COMET

    # A file that the user gives is used alone, unless a COMET is given, too.
    named: str | None = context.option(COMET)
    return named or (None if context.option(KNOWLEDGE_FILE) else DEFAULT_COMET)


def _keep(context: PartContext) -> Keep:
    keep: Keep = context.option(SELECT) or context.template.knowledge.select.keep
    return keep


KNOWLEDGE = Part(
    place="knowledge",
    about="commonsense inferences added (section 3.3.3)",
    options=(KNOWLEDGE_FILE, COMET, SELECT),
    make=_make,
    fetch=_fetch,
)
