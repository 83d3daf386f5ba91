"""The strategy interface: an async function of a dialogue and an engine.

A strategy is composed of two kinds of parts, which combine freely:

    Enricher    looks up additions to the prompt: exemplars, inferences
    Flow        calls the engine: once (reply), or twice (name the feeling and the situation, then reply)

`draft` runs the enrichers, `respond` runs the flow. A batch drafts all dialogues first, so that encoder and COMET get
full batches, and prompt lengths are known before the engine starts; a server drafts and responds in one step.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localemp.commonsense.inferences import Inferences
from localemp.commonsense.selection import Dropped
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion, Engine
from localemp.errors import PromptTooLongError
from localemp.prompting.render import Prompts
from localemp.sampling import Sampling
from localemp.strategies.cleaning import clean_reply

_log = logging.getLogger(__name__)

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Returns the number of tokens of each text."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A training dialogue for the prompt, with its cosine similarity (None if it was not computed)."""

    dialogue: Dialogue
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A dialogue with everything that was looked up for it.

    Attributes:
        dialogue: The dialogue.
        exemplars: Exemplars, most similar first.
        inferences, dropped: The selected inferences, and those that were not selected.
        additions: Further texts after the dialogue's last turn.
        instruction: The caller's addition to the task.
    """

    dialogue: Dialogue
    exemplars: tuple[Exemplar, ...] = ()
    inferences: Inferences | None = None
    dropped: Mapping[str, tuple[Dropped, ...]] = field(default_factory=dict)
    additions: tuple[str, ...] = ()
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One call of the engine.

    Attributes:
        name: "feeling" (stage 1), or "reply" (the last stage).
        messages: The prompt.
        completion: The engine's answer.
        dropped: Number of exemplars that were dropped, least similar first, to fit the context.
    """

    name: str
    messages: tuple[Message, ...]
    completion: Completion
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """The reply to one dialogue, and every stage behind it.

    Attributes:
        dialogue: The dialogue.
        reply: The cleaned reply, without a leading "Listener:" or an invented next turn of the speaker. If thinking is
            kept, it precedes the reply, between <think> and </think>.
        raw: The model's reply before cleaning, without its thinking, which is in the stage.
        stages: The stages, the reply's last.
        exemplars, inferences, dropped: As in the draft.
    """

    dialogue: Dialogue
    reply: str
    raw: str
    stages: tuple[Stage, ...]
    exemplars: tuple[Exemplar, ...] = ()
    inferences: Inferences | None = None
    dropped: Mapping[str, tuple[Dropped, ...]] = field(default_factory=dict)

    @property
    def finish_reason(self) -> str:
        """The finish reason of the reply."""
        return self.stages[-1].completion.finish_reason


class Enricher(ABC):
    """Adds exemplars or inferences to a draft.

    Attributes:
        looks_up: Whether that takes time; if not, drafts are made at once.
    """

    looks_up: bool = True

    @abstractmethod
    async def enrich(self, draft: Draft) -> Draft:
        """Return the draft with this enricher's additions."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return everything that can change the additions, for the manifest."""

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if nothing can be looked up for the dialogue."""
        return

    def notes(self) -> dict[str, str]:
        """Return notes for the user by topic, one line each, such as how many dialogues were cut."""
        return {}

    def count_anew(self) -> None:
        """Forget the dialogues that `notes` has counted."""
        return

    def longest(self, draft: Draft, count: CountTokens) -> Draft | None:
        """Return the draft with additions at least as long as any that `enrich` makes; None if that is unknown.

        It lets a batch start its engine, whose context must be long enough, before everything is looked up.
        """
        return None

    def remember(self, dialogues: int) -> None:
        """Keep what is found for the last dialogues, for other rows of an experiment that look up the same."""
        return

    async def prepare(self, dialogues: Sequence[Dialogue]) -> None:
        """Load everything that is needed to enrich these dialogues."""
        await self.warm_up()

    async def warm_up(self) -> None:
        """Load everything that `enrich` needs, so that the first dialogue does not wait."""
        await self.enrich(Draft(Dialogue("try", ("Hello.",))))

    def waiting(self) -> Mapping[str, int]:
        """Return the number of waiting lookups by resource, for `/metrics`."""
        return {}

    def forget(self, folder: Path) -> None:
        """Replace caches on disk by empty ones in this folder, for benchmarks."""
        return


@dataclass(slots=True)
class Exchange:
    """The processing of one draft: renders prompts, calls the engine, and collects the stages.

    Attributes:
        draft: The draft.
        engine: The engine.
        last: The engine of the stage "reply": `engine` itself, or one that also streams the reply.
        prompts: The template in the model's layout.
        sampling: Sampling parameters.
        stages: The stages so far.
    """

    draft: Draft
    engine: Engine
    last: Engine
    prompts: Prompts
    sampling: Sampling
    stages: list[Stage] = field(default_factory=list)

    async def ask(self, name: str, *additions: str, thought: str | None = None) -> str:
        """Call the engine once; exemplars are dropped, least similar first, while the prompt is too long.

        Args:
            name: Name of the stage; "reply" is the last.
            additions: Texts after the last turn, in addition to the inferences.
            thought: The result of stage 1, for stage 2.

        Raises:
            PromptTooLongError: The prompt does not fit even without exemplars.
            EngineError: The request failed, or the model only thought.
        """
        exemplars = [exemplar.dialogue for exemplar in self.draft.exemplars]
        knowledge = self.prompts.knowledge(self.draft.inferences) if self.draft.inferences else None
        texts = [*([knowledge] if knowledge else []), *self.draft.additions, *additions]
        engine = self.last if name == "reply" else self.engine
        thinking = bool(additions) and thought is None
        for kept in range(len(exemplars), -1, -1):
            messages = self.prompts.messages(
                self.draft.dialogue,
                exemplars[:kept],
                texts,
                thought,
                thinking=thinking,
                instruction=self.draft.instruction,
            )
            try:
                completion = await engine.chat(messages, self.sampling)
            except PromptTooLongError:
                if not kept:
                    raise
            else:
                self.stages.append(Stage(name, tuple(messages), completion, len(exemplars) - kept))
                return completion.require_text()
        raise AssertionError("the loop above ends by returning or raising")


class Flow(ABC):
    """The engine calls that lead to a reply; the last one is the reply."""

    @abstractmethod
    async def run(self, exchange: Exchange) -> None:
        """Make the calls."""

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if the dialogue lacks something that this flow needs."""
        return

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the reply, for the manifest."""
        return {}


class OneStage(Flow):
    """Ask for the reply in one call."""

    async def run(self, exchange: Exchange) -> None:
        """Make the call."""
        await exchange.ask("reply")


class Strategy:
    """A prompting strategy for empathetic replies.

    Args:
        name: Canonical name, such as "similar+two-stage".
        prompts: The template in the model's layout.
        sampling: Sampling parameters; the layout's stop strings are added.
        enrichers: The lookups, in order.
        flow: The engine calls.
        keep_thinking: Whether replies begin with the model's thinking.
    """

    def __init__(
        self,
        name: str,
        prompts: Prompts,
        sampling: Sampling,
        enrichers: Sequence[Enricher] = (),
        flow: Flow | None = None,
        *,
        keep_thinking: bool = False,
    ) -> None:
        self.name, self.prompts, self.keep_thinking = name, prompts, keep_thinking
        self.sampling = replace(sampling, stop=(*sampling.stop, *prompts.stop))
        self.enrichers, self.flow = tuple(enrichers), flow or OneStage()
        self._noted: set[str] = set()

    def check(self, dialogue: Dialogue) -> None:
        """Check that the dialogue has everything that the strategy needs.

        Raises:
            OptionError: Something is missing (`--given emotion` without an emotion); says what.
        """
        self.flow.check(dialogue)
        for enricher in self.enrichers:
            enricher.check(dialogue)

    async def draft(self, dialogue: Dialogue, *, log: bool = True) -> Draft:
        """Look up the additions to the prompt.

        Args:
            dialogue: The dialogue.
            log: Whether to log each kind of note once; callers that draft many dialogues report notes at the end.

        Raises:
            OptionError: As in `check`.
        """
        self.check(dialogue)
        draft = Draft(dialogue)
        for enricher in self.enrichers:
            draft = await enricher.enrich(draft)
        for about, note in self.notes().items() if log else ():
            if about not in self._noted:
                self._noted.add(about)
                _log.warning("%s (reported once)", note)
        return draft

    def longest(self, draft: Draft, count: CountTokens) -> Draft | None:
        """Return the draft with additions at least as long as any dialogue's; None if that is unknown."""
        longest: Draft | None = draft
        for enricher in self.enrichers:
            longest = longest and enricher.longest(longest, count)
        return longest

    def notes(self) -> dict[str, str]:
        """Return notes on the dialogues drafted so far by topic, one line each."""
        return {about: note for enricher in self.enrichers for about, note in enricher.notes().items()}

    def count_anew(self) -> None:
        """Forget the dialogues that `notes` has counted."""
        for enricher in self.enrichers:
            enricher.count_anew()

    async def respond(self, dialogue: Dialogue | Draft, engine: Engine, last: Engine | None = None) -> Response:
        """Answer one dialogue.

        Args:
            dialogue: The dialogue, or its draft.
            engine: The engine.
            last: The engine of the last stage, if it is another one.

        Raises:
            EngineError: A request failed.
            PromptTooLongError: The prompt does not fit even without exemplars.
        """
        draft = dialogue if isinstance(dialogue, Draft) else await self.draft(dialogue)
        exchange = Exchange(draft, engine, last or engine, self.prompts, self.sampling)
        await self.flow.run(exchange)
        completion = exchange.stages[-1].completion
        reply = clean_reply(completion.text)
        if self.keep_thinking and completion.thinking:
            reply = f"<think>\n{completion.thinking}\n</think>\n\n{reply}"
        found = draft.exemplars, draft.inferences, draft.dropped
        return Response(draft.dialogue, reply, completion.text, tuple(exchange.stages), *found)

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the replies, for the manifest."""
        settings: dict[str, Any] = {"strategy": self.name, **self.prompts.describe(), **self.flow.describe()}
        # Only if set, so that older runs can be resumed.
        settings |= {"keep_thinking": True} if self.keep_thinking else {}
        for enricher in self.enrichers:
            settings |= enricher.describe()
        return settings
