"""What a strategy is: one async function of a dialogue and an engine.

A strategy is put together from two kinds of parts, so that they combine freely:

    Enricher    looks up what the prompt should hold besides the dialogue: exemplars, inferences
    Flow        the calls of the engine: one (reply), or two (name the feeling and the situation, then reply)

`draft` runs the enrichers, `respond` runs the flow. A batch drafts all its dialogues first, so that encoder and COMET
work in full batches and every prompt's length is known before the engine starts; a server does both in one go.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A training dialogue to be shown, and how similar it is (cosine, None where it was not asked)."""

    dialogue: Dialogue
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A dialogue and what was looked up for it.

    Attributes:
        exemplars: Most similar first.
        inferences, dropped: Those that were chosen, and those that were not.
        additions: Further texts after the last turn of the dialogue.
        instruction: What a caller adds to the task.
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
        name: "feeling" (stage 1) or "reply", the last.
        messages: What was sent.
        completion: What came back.
        dropped: How many exemplars, least similar first, had to go for the prompt to fit.
    """

    name: str
    messages: tuple[Message, ...]
    completion: Completion
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """The reply to one dialogue, and every stage behind it.

    Attributes:
        reply: The reply, cleaned: without a leading "Listener:" and without a made-up next turn of the speaker. Where
            thinking is kept, it stands before it, between the marks that most models write.
        raw: The reply as the model sent it, without what it thought before, which is in the stage.
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
        """Why the reply ended."""
        return self.stages[-1].completion.finish_reason


class Enricher(ABC):
    """Adds exemplars or inferences to a draft."""

    @abstractmethod
    async def enrich(self, draft: Draft) -> Draft:
        """The draft with what this enricher found."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that can change what it finds, for the manifest."""

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError where nothing can be found for the dialogue."""
        return

    def notes(self) -> dict[str, str]:
        """What a person should know so far, such as how many dialogues were cut: what about, and one line of it."""
        return {}

    async def warm_up(self) -> None:
        """Load what `enrich` needs, so that the first dialogue does not wait for it."""
        await self.enrich(Draft(Dialogue("try", ("Hello.",))))

    def waiting(self) -> Mapping[str, int]:
        """Lookups that wait now, by what they wait for; `/metrics` shows them."""
        return {}

    def forget(self, folder: Path) -> None:
        """Replace caches on disk by empty ones in this folder: for measurements."""
        return


@dataclass(slots=True)
class Exchange:
    """One draft on its way through the engine: renders prompts, asks, and keeps the stages.

    Attributes:
        last: Who is asked for the stage "reply": `engine` again, or one that also sends it on as it comes.
    """

    draft: Draft
    engine: Engine
    last: Engine
    prompts: Prompts
    sampling: Sampling
    stages: list[Stage] = field(default_factory=list)

    async def ask(self, name: str, *additions: str, thought: str | None = None) -> str:
        """One call of the engine; exemplars are dropped, least similar first, as long as the prompt is too long.

        Args:
            name: The stage's name; "reply" is the last.
            additions: Texts after the last turn, besides the knowledge.
            thought: What stage 1 found, for stage 2.

        Raises:
            PromptTooLongError: It does not fit even without exemplars.
            EngineError: No text came, or only thinking.
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
    """The calls of the engine that lead to a reply; the last call is the reply."""

    @abstractmethod
    async def run(self, exchange: Exchange) -> None:
        """Ask what is to be asked."""

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError where the dialogue lacks what this flow needs."""
        return

    def describe(self) -> dict[str, Any]:
        """Everything that can change the reply, for the manifest."""
        return {}


class OneStage(Flow):
    """Ask for the reply."""

    async def run(self, exchange: Exchange) -> None:
        """One call."""
        await exchange.ask("reply")


class Strategy:
    """A way to ask for an empathetic reply.

    Args:
        name: Canonical name, such as "similar+two-stage".
        prompts: The template in the model's layout.
        sampling: How replies are drawn; the layout's stop texts are added.
        enrichers: What to look up, in this order.
        flow: The calls to make.
        keep_thinking: Whether replies begin with what the model thought.
    """

    def __init__(
        self,
        name: str,
        prompts: Prompts,
        sampling: Sampling,
        enrichers: Sequence[Enricher] = (),
        flow: Flow | None = None,
        keep_thinking: bool = False,
    ) -> None:
        self.name, self.prompts, self.keep_thinking = name, prompts, keep_thinking
        self.sampling = replace(sampling, stop=(*sampling.stop, *prompts.stop))
        self.enrichers, self.flow = tuple(enrichers), flow or OneStage()
        self._noted: set[str] = set()

    def check(self, dialogue: Dialogue) -> None:
        """Quick look whether the dialogue has what the strategy needs.

        Raises:
            OptionError: It lacks something (`--given emotion` without an emotion); says what.
        """
        self.flow.check(dialogue)
        for enricher in self.enrichers:
            enricher.check(dialogue)

    async def draft(self, dialogue: Dialogue, *, log: bool = True) -> Draft:
        """Look up what the prompt should hold besides the dialogue.

        Args:
            dialogue: The dialogue.
            log: Whether a note goes to the log when it is the first of its kind; who drafts many at once tells them at
                the end.

        Raises:
            OptionError: See `check`.
        """
        self.check(dialogue)
        draft = Draft(dialogue)
        for enricher in self.enrichers:
            draft = await enricher.enrich(draft)
        for about, note in self.notes().items() if log else ():
            if about not in self._noted:
                self._noted.add(about)
                _log.warning("%s (said once)", note)
        return draft

    def notes(self) -> dict[str, str]:
        """What a person should know of the dialogues that were drafted so far: what about, and one line of it."""
        return {about: note for enricher in self.enrichers for about, note in enricher.notes().items()}

    async def respond(self, dialogue: Dialogue | Draft, engine: Engine, last: Engine | None = None) -> Response:
        """Answer one dialogue.

        Args:
            dialogue: The dialogue, or its draft where it was made beforehand.
            engine: Who answers.
            last: Who answers the last stage, where that is another.

        Raises:
            EngineError: The engine could not give this reply.
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
        """Everything that can change the replies, for the manifest."""
        settings: dict[str, Any] = {"strategy": self.name, **self.prompts.describe(), **self.flow.describe()}
        # Only where it is on: runs from before there was a choice go on.
        settings |= {"keep_thinking": True} if self.keep_thinking else {}
        for enricher in self.enrichers:
            settings |= enricher.describe()
        return settings
