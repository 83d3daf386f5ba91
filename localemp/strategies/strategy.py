"""The strategy interface: an async function of a dialogue and an engine.

`draft` runs the enrichers, `respond` runs the flow. A batch drafts all dialogues first, so that encoder and COMET get
full batches, and prompt lengths are known before the engine starts; a server drafts and responds in one step.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from localemp.dialogue import Dialogue
from localemp.engines.base import PLANNED, Engine
from localemp.errors import DryRunError, LocalempError, OptionError
from localemp.prompting.render import Prompts
from localemp.sampling import Sampling
from localemp.strategies.base import CountTokens, Draft, Enricher, Exchange, Flow, OnStage, Response, kept_thinking
from localemp.strategies.cleaning import clean_reply
from localemp.strategies.flows import zero_shot
from localemp.utils.plugins import described
from localemp.utils.text import one_line

_log = logging.getLogger(__name__)


class Strategy:
    """A prompting strategy for empathetic replies.

    Args:
        name: Canonical name, such as "similar+two-stage".
        prompts: The template in the model's layout.
        sampling: Sampling parameters; the layout's stop strings are added.
        enrichers: The lookups, in order.
        flow: The engine calls; None for one.
        keep_thinking: Whether replies begin with the model's thinking.
        trim_to_sentence: Whether truncated replies are cut at their last whole sentence.
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
        trim_to_sentence: bool = False,
    ) -> None:
        self.name, self.prompts = name, prompts
        self.keep_thinking, self.trim_to_sentence = keep_thinking, trim_to_sentence
        self.sampling = replace(sampling, stop=(*sampling.stop, *prompts.stop))
        self.enrichers, self.flow = tuple(enrichers), flow or zero_shot(prompts.template)
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
            found: object = await enricher.enrich(draft)
            if not isinstance(found, Draft):
                raise OptionError(f"{type(enricher).__name__}.enrich returned {described(found)}, not a Draft")
            draft = found
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

    async def respond(
        self,
        dialogue: Dialogue | Draft,
        engine: Engine,
        last: Engine | None = None,
        on_stage: OnStage | None = None,
    ) -> Response:
        """Answer one dialogue.

        Args:
            dialogue: The dialogue, or its draft.
            engine: The engine.
            last: The engine of the last stage, if it is another one.
            on_stage: Called with each stage when it has run.

        Raises:
            EngineError: A request failed.
            PromptTooLongError: The prompt does not fit even without exemplars.
            DryRunError: The flow, code of a user, cannot go on from an answer that a dry run made up.
            OptionError: The flow made no call.
        """
        draft = dialogue if isinstance(dialogue, Draft) else await self.draft(dialogue)
        exchange = Exchange(
            draft, engine, last or engine, self.prompts, self.sampling, self.trim_to_sentence, on_stage=on_stage
        )
        try:
            await self.flow.run(exchange)
        except LocalempError:
            raise
        except Exception as error:
            if any(stage.completion.finish_reason == PLANNED for stage in exchange.stages):
                raise DryRunError(self.name, one_line(f"{type(error).__name__}: {error}", 100)) from error
            raise
        if not exchange.stages:
            raise OptionError(f"the strategy {self.name} made no call", 'its flow ends with exchange.ask("reply")')
        completion, is_text = exchange.stages[-1].completion, exchange.stages[-1].answer is None
        reply = clean_reply(completion.text, completion.finish_reason, trims=self.trim_to_sentence and is_text)
        if self.keep_thinking:
            reply = kept_thinking(completion) + reply
        found = draft.exemplars, draft.inferences, draft.dropped
        stages, skipped = tuple(exchange.stages), tuple(exchange.skipped)
        return Response(draft.dialogue, reply, completion.text, stages, *found, skipped=skipped)

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the replies, for the manifest."""
        settings: dict[str, Any] = {"strategy": self.name, **self.prompts.describe(), **self.flow.describe()}
        # Only if set, so that older runs can be resumed.
        settings |= {"keep_thinking": True} if self.keep_thinking else {}
        settings |= {"trim_to_sentence": True} if self.trim_to_sentence else {}
        for enricher in self.enrichers:
            settings |= enricher.describe()
        return settings
