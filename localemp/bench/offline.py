"""Timed batches on an engine, for `bench engine`, `bench strategies` and `tune`.

A batch is timed as `localemp generate` runs it: the strategy's stages, requests, cleaning, and every reply written into
a run's folder. Exemplars and inferences are looked up first, and that is timed separately.
"""

import asyncio
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from localemp.data.sources import check_split, load_dialogues
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion
from localemp.engines.vllm.engine import VLLMEngine
from localemp.errors import EngineError, OptionError
from localemp.pipeline.generate import Tally, answer_all, draft_all, for_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, read_records
from localemp.strategies.base import Draft
from localemp.strategies.strategy import Strategy
from localemp.utils.timing import computed_seconds


@dataclass(frozen=True, slots=True)
class Workload:
    """Dialogues with everything that a strategy has looked up for them.

    Attributes:
        pipeline: The strategy and its model.
        drafts: One for each dialogue.
        context: Tokens needed by the longest prompt and its reply.
        seconds: The lookup time, without loading.
        encoder_seconds, comet_seconds: The parts of it in which encoder and COMET computed, without loading.
    """

    pipeline: Pipeline
    drafts: list[Draft]
    context: int
    seconds: float
    encoder_seconds: float
    comet_seconds: float


async def look_up(pipeline: Pipeline, dialogues: Sequence[Dialogue], *, remember: bool = True) -> Workload:
    """Draft all dialogues and time it; encoder and COMET are loaded and warmed up first.

    Args:
        pipeline: The strategy and its model.
        dialogues: The dialogues to draft.
        remember: Whether to use COMET's cache; if not, everything is inferred now and nothing is kept.

    Raises:
        LocalempError: Something is missing, or a dialogue lacks what the strategy needs.
    """
    strategy = pipeline.strategy
    with tempfile.TemporaryDirectory() as folder:
        if not remember:
            _forget(strategy, Path(folder) / "warm-up")
        await strategy.draft(dialogues[0])  # loads encoder and COMET
        if not remember:
            _forget(strategy, Path(folder) / "measured")
        before, started = computed_seconds(), time.perf_counter()
        drafts = await draft_all(strategy, dialogues)
        seconds, after = time.perf_counter() - started, computed_seconds()
    encoder, comet = (after.get(part, 0.0) - before.get(part, 0.0) for part in ("encoder", "comet"))
    context = await plan(strategy, drafts, pipeline.planner())
    return Workload(pipeline, drafts, context, seconds, encoder, comet)


def _forget(strategy: Strategy, folder: Path) -> None:
    folder.mkdir()
    for enricher in strategy.enrichers:
        enricher.forget(folder)


def dialogues_for(pipeline: Pipeline, split: str, limit: int) -> list[Dialogue]:
    """Load the dialogues to measure with.

    Raises:
        OptionError: There are none.
    """
    config = pipeline.config
    check_split(config.source, split)
    dialogues = load_dialogues(config.source, split, config.instances, limit)
    if not dialogues:
        raise OptionError(f"--data {config.data}: no dialogue to measure with", "name data with dialogues")
    return dialogues


@dataclass(frozen=True, slots=True)
class Batch:
    """One answered batch.

    Attributes:
        tally: Replies, tokens of all stages, seconds.
        cached_tokens: Prompt tokens that came from the prefix cache.
        records: The lines of the run in the order of the dialogues, see `localemp.runs.run`.
    """

    tally: Tally
    cached_tokens: int
    records: list[dict[str, Any]]

    @property
    def prompts(self) -> list[list[Message]]:
        """All prompts that were sent: the first stages of all dialogues, then the second ones, and so on."""
        stages = zip_longest(*(record["stages"] for record in self.records))
        sent = [stage["messages"] for each in stages for stage in each if stage is not None]
        return [[Message(**message) for message in messages] for messages in sent]

    @property
    def values(self) -> dict[str, float]:
        """The measured values, by the names of `localemp.bench.quantities`."""
        tally = self.tally
        tokens = tally.prompt_tokens + tally.completion_tokens
        return {
            "replies_per_s": tally.done / tally.seconds,
            "reply_tokens_per_s": tally.completion_tokens / tally.seconds,
            "prompt_tokens_per_s": tally.prompt_tokens / tally.seconds,
            "tokens_per_s": tokens / tally.seconds,
            "seconds": tally.seconds,
            "tokens_per_reply": tally.completion_tokens / tally.done,
            "prompt_tokens_per_reply": tally.prompt_tokens / tally.done,
            "prefix_hits": self.cached_tokens / max(tally.prompt_tokens, 1),
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """Prompts that were sent again.

    Attributes:
        completions: One for each prompt.
        seconds: From the first prompt to the last token.
    """

    completions: list[Completion]
    seconds: float

    @property
    def prompt_tokens(self) -> int:
        """The tokens of all prompts."""
        return sum(each.prompt_tokens or 0 for each in self.completions)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return sum(each.cached_tokens or 0 for each in self.completions)

    @property
    def completion_tokens(self) -> int:
        """The tokens of all texts."""
        return sum(each.completion_tokens or 0 for each in self.completions)


class OfflineEngine:
    """vLLM in this process, answering batches from an empty prefix cache. Use it in an `async with` block.

    Args:
        workloads: The workloads to answer, all for the same model; the context fits the longest of their prompts.
        log: The file for vLLM's messages; by default a new one in localemp's cache.
        options: Engine arguments in addition to the config's.
        tokens: The longest texts that `answer` and `replay` will ask for, if longer than the strategy's.

    Attributes:
        start_seconds: The time until the engine is ready.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        log: Path | None = None,
        options: Mapping[str, Any] | None = None,
        tokens: int = 0,
    ) -> None:
        first = workloads[0].pipeline
        config, self._sampling = first.config, first.strategy.sampling
        longer = 2 * max(0, tokens - self._sampling.most_tokens)  # stage 2 reads the text of stage 1
        context = min(max(workload.context for workload in workloads) + longer, first.context_length)
        arguments = {**first.thinking.engine_args, **config.engine_args, **(options or {})}
        adapters = [] if first.adapter is None else [first.adapter]
        self.engine = VLLMEngine(
            first.tokenizer,
            context,
            arguments,
            seed=config.seed,
            concurrency=config.concurrency,
            log=log,
            deterministic=config.deterministic,
            adapters=adapters,
        )
        self._asked = self.engine.adapted(first.adapter)
        self.start_seconds = 0.0

    async def __aenter__(self) -> "OfflineEngine":
        started = time.perf_counter()
        await self.engine.start()
        self.start_seconds = time.perf_counter() - started
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()

    @property
    def threads(self) -> int | None:
        """The threads of the started engine, from the log of vLLM's CPU build; None for other builds."""
        said = re.findall(r"local_rank=\d+, core ids=\[([\d, ]*)\]", self.engine.log.read_text("utf-8", "replace"))
        return len(said[-1].split(",")) if said else None

    def describe(self) -> dict[str, Any]:
        """Return everything that decides the engine's speed: arguments as given, as resolved, and threads."""
        return {
            **self._asked.describe(),
            "configured": self.engine.effective_settings(),
            "concurrency": self.engine.concurrency,
            "threads": self.threads,
        }

    async def answer(
        self,
        workload: Workload,
        *,
        concurrency: int | None = None,
        tokens: int | None = None,
        warm: bool = False,
    ) -> Batch:
        """Answer a workload as `generate` does.

        Args:
            workload: The workload.
            concurrency: Dialogues in flight; by default the engine's own number.
            tokens: The exact length of every stage's text; by default the model ends its texts.
            warm: Whether to keep the prefix cache.

        Raises:
            EngineError: A dialogue could not be answered: values over the others would mean nothing.
        """
        if not warm:
            await self.engine.reset_prefix_cache()
        strategy, drafts = workload.pipeline.strategy, workload.drafts
        with tempfile.TemporaryDirectory() as folder, self._set(concurrency, tokens):
            with Run.open(Path(folder), {}) as run:
                tally = await answer_all(strategy, drafts, self._asked, run)
            records = await asyncio.to_thread(read_records, Path(folder))
        if tally.failed:
            errors = [record["error"] for record in records if "error" in record]
            raise EngineError(
                f"{tally.failed} of {tally.total} dialogues failed: {errors[0]['message']}",
                f"its log: {self.engine.log}",
            )
        place = {draft.dialogue.id: number for number, draft in enumerate(drafts)}
        records.sort(key=lambda record: place[record["id"]])
        cached = sum(stage["cached_tokens"] or 0 for record in records for stage in record["stages"])
        return Batch(tally, cached, records)

    async def replay(
        self, prompts: Sequence[Sequence[Message]], tokens: int, *, concurrency: int | None = None
    ) -> Replay:
        """Send prompts from an empty prefix cache; each gets a fixed number of tokens.

        Args:
            prompts: The prompts, in order.
            tokens: The exact length of every text.
            concurrency: Prompts in flight; by default the engine's own number.

        Raises:
            EngineError: A prompt could not be answered.
        """
        await self.engine.reset_prefix_cache()
        completions: dict[int, Completion] = {}

        async def send(item: tuple[int, Sequence[Message]]) -> None:
            completions[item[0]] = await self._asked.chat(item[1], self._sampling)

        with self._set(concurrency, tokens):
            started = time.perf_counter()
            await for_all(list(enumerate(prompts)), send, self.engine.concurrency)
            seconds = time.perf_counter() - started
        return Replay([completions[row] for row in range(len(prompts))], seconds)

    @contextmanager
    def _set(self, concurrency: int | None, fixed_length: int | None) -> Iterator[None]:
        before = self.engine.concurrency
        self.engine.concurrency, self.engine.fixed_length = concurrency or before, fixed_length
        try:
            yield
        finally:
            self.engine.concurrency, self.engine.fixed_length = before, None
