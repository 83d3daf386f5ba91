"""What strategies are composed of: two kinds of parts, which combine freely.

    Enricher    looks up additions to the prompt: exemplars, inferences
    Flow        calls the engine: once (reply), or more often (name the feeling and the situation, then reply)

An enricher adds to a `Draft`; a flow has an `Exchange`, through which it asks, and leaves stages. Most flows are files
(`flows.py`); a subclass of `Flow` can do what no file can. `strategy.py` puts the parts together.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from localemp.commonsense.inferences import Inferences
from localemp.commonsense.selection import Dropped
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import STAGE, TRUNCATED, Completion, Engine
from localemp.errors import EngineError, PromptTooLongError
from localemp.prompting.flow import REPLY
from localemp.prompting.render import Asked, Prompts
from localemp.sampling import Sampling

LONGEST_PROMPT = 4_000_000
"""Most characters of a prompt, about a million tokens; answers that quote one another can grow without limit."""

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
        name: The flow's name for it; that of the last stage is "reply".
        messages: The prompt.
        completion: The engine's answer.
        dropped: Number of exemplars that were dropped, least similar first, to fit the context.
        answer: The label or the JSON that was read in the answer; None if it is a text.
        sampling: The sampling parameters of the call that are not the strategy's.
    """

    name: str
    messages: tuple[Message, ...]
    completion: Completion
    dropped: int = 0
    answer: Any = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


OnStage = Callable[[Stage], object]


@dataclass(frozen=True, slots=True)
class Response:
    """The reply to one dialogue, and every stage behind it.

    Attributes:
        dialogue: The dialogue.
        reply: The cleaned reply, without a leading "Listener:" or an invented next turn of the speaker, and up to its
            last whole sentence if it was truncated and that is wanted. If thinking is kept, it precedes the reply,
            between <think> and </think>.
        raw: The model's reply before cleaning, without its thinking, which is in the stage.
        stages: The stages, the reply's last.
        exemplars, inferences, dropped: As in the draft.
        skipped: The names of the stages that did not run, since they are for other labels of an earlier stage.
    """

    dialogue: Dialogue
    reply: str
    raw: str
    stages: tuple[Stage, ...]
    exemplars: tuple[Exemplar, ...] = ()
    inferences: Inferences | None = None
    dropped: Mapping[str, tuple[Dropped, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def finish_reason(self) -> str:
        """The finish reason of the reply."""
        return self.stages[-1].completion.finish_reason

    @property
    def truncated(self) -> bool:
        """Whether the limit of tokens ended the reply, and not the model."""
        return self.finish_reason == TRUNCATED

    @property
    def said(self) -> str:
        """The reply without thinking, as the next turn of a dialogue."""
        return self.reply.removeprefix(kept_thinking(self.stages[-1].completion))


def kept_thinking(completion: Completion) -> str:
    """Return a completion's thinking as it precedes a reply that keeps it."""
    return f"<think>\n{completion.thinking}\n</think>\n\n" if completion.thinking else ""


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
        trims: Whether a truncated reply is cut at its last whole sentence.
        stages: The stages so far.
        skipped: The names of those that do not run.
        on_stage: Called with each stage, in order.
    """

    draft: Draft
    engine: Engine
    last: Engine
    prompts: Prompts
    sampling: Sampling
    trims: bool = False
    stages: list[Stage] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    on_stage: OnStage | None = None

    def add(self, stages: Sequence[Stage]) -> None:
        """Add stages to those that were run."""
        self.stages += stages
        if self.on_stage is not None:
            for stage in stages:
                self.on_stage(stage)

    async def ask(self, name: str, *additions: str, turns: Sequence[tuple[str, str]] = ()) -> str:
        """Call the engine once, as one more stage, and return its answer.

        Args:
            name: Name of the stage; "reply" is the last.
            additions: Texts after the last turn, in addition to the inferences; the last one is a question.
            turns: Further turns: pairs of what the model answered, and what it is told next.

        Raises:
            PromptTooLongError: The prompt does not fit even without exemplars.
            EngineError: The request failed, or the model only thought.
        """
        cue = self.prompts.template.two_stage.cue
        told = tuple(said for answer, next_turn in turns for said in ((cue, answer), ("", next_turn)))
        asked = Asked("\n\n".join(additions), told, cue if additions and not turns else None)
        (stage,) = await self.call(name, asked)
        self.add([stage])
        return stage.completion.require_text()

    async def call(
        self,
        name: str,
        asked: Asked,
        sampling: Sampling | None = None,
        *,
        exemplars: bool = True,
        knowledge: bool = True,
        candidates: int = 1,
    ) -> list[Stage]:
        """Call the engine; exemplars are dropped, least similar first, while the prompt is too long.

        Args:
            name: Name of the stage; "reply" is the last.
            asked: What is asked.
            sampling: Sampling parameters; None for the exchange's.
            exemplars: Whether the prompt has the draft's exemplars.
            knowledge: Whether it has the draft's other additions.
            candidates: Number of answers.

        Returns:
            One stage for each answer; none is added to `stages`.

        Raises:
            PromptTooLongError: The prompt does not fit even without exemplars.
            EngineError: The request failed, or the prompt has millions of characters.
        """
        draft, usual = self.draft, self.sampling if name == REPLY else self.sampling.before_reply()
        sampling = sampling or usual
        shown = [exemplar.dialogue for exemplar in draft.exemplars] if exemplars else []
        texts = list(draft.additions) if knowledge else []
        if knowledge and draft.inferences and (found := self.prompts.knowledge(draft.inferences)):
            texts.insert(0, found)
        engine = self.last if name == REPLY else self.engine
        STAGE.set(name)
        for kept in range(len(shown), -1, -1):
            messages = self.prompts.messages(draft.dialogue, shown[:kept], texts, asked, instruction=draft.instruction)
            try:
                _check_length(name, messages)
                if candidates > 1:
                    completions = await engine.candidates(messages, sampling, candidates)
                else:
                    completions = [await engine.chat(messages, sampling)]
            except PromptTooLongError:
                if kept:
                    continue
                raise
            prompt, dropped = tuple(messages), len(shown) - kept
            return [
                Stage(name, prompt, each, dropped, None, self._own(sampling, number))
                for number, each in enumerate(completions)
            ]
        raise AssertionError("the loop above ends by returning or raising")

    def _own(self, sampling: Sampling, candidate: int) -> dict[str, Any]:
        """Return what is not the strategy's in the sampling parameters of a call; of candidates, by number from 0."""
        if sampling is self.sampling and not candidate:
            return {}
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + candidate)
        usual = asdict(self.sampling)
        return {name: value for name, value in asdict(sampling).items() if value != usual[name]}


def _check_length(stage: str, messages: Sequence[Message]) -> None:
    size = sum(len(message.content) for message in messages)
    if size > LONGEST_PROMPT:
        raise EngineError(
            f"the prompt of stage {stage!r} has {size:,} characters; {LONGEST_PROMPT:,} are the most",
            "quote fewer answers, or give the stages that are quoted a smaller max_tokens",
        )


class Flow(ABC):
    """The engine calls that lead to a reply; the last one is the reply.

    Attributes:
        facts: What it shows of the facts that the data may have of a dialogue: "emotion", "situation".
    """

    facts: tuple[str, ...] = ()

    @property
    def chooses_reply(self) -> bool:
        """Whether the reply is one of several candidates."""
        return False

    @property
    def draws(self) -> bool:
        """Whether a call may be drawn at a temperature of its own, also where the run's is 0."""
        return True

    @abstractmethod
    async def run(self, exchange: Exchange) -> None:
        """Make the calls."""

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if the dialogue lacks something that this flow needs."""
        return

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the reply, for the manifest."""
        return {}
