"""Takes in every prompt of planned runs, and estimates what they will take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from localemp.engines.labels import label_answer, labels_of
from localemp.engines.planner import PlannedCall
from localemp.errors import EngineError, PromptTooLongError
from localemp.estimates.cache_rules import cache_rules
from localemp.estimates.estimate import Dollars, Estimate, RowEstimate
from localemp.estimates.hosted_tokens import HostedTokenizer
from localemp.estimates.prefix_cache import CacheRules, Request, cached_tokens, chain
from localemp.estimates.reply_lengths import Length, LengthSources, ReplyLengths
from localemp.estimates.speed import Speed, Work, find_speed
from localemp.models.price import TIERS, Price, billed_tier
from localemp.pipeline.batch import Batch
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.shared_answers import request_key
from localemp.protocol.completions import Usage
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Response
from localemp.strategies.flows import StagedFlow

if TYPE_CHECKING:
    from localemp.bench.roofline.hardware import Hardware


@dataclass(frozen=True, slots=True)
class _Call:
    """A planned call, without its tokens.

    Attributes:
        stage: Its name.
        tokens: Of the prompt, with the tokens in it that stand for earlier answers.
        quotes: Each stage whose answer the prompt has, with the tokens that stand for it, and how often.
        limit: The most tokens of the completion, thinking included.
        label: Tokens of the longest possible answer if it is one of a list of labels; else None.
        key: Of the whole request, if an identical one has the same answer; else None.
        blocks: Hashes of the prompt's full blocks.
        continues: Whether the prompt begins with the prompt of the dialogue's call before.
        again: Whether a server answers it with the call before, as one request whose prompt counts once.
    """

    stage: str
    tokens: int
    quotes: Sequence[tuple[str, int, int]]
    limit: int
    label: int | None
    key: bytes | None
    blocks: Sequence[int]
    continues: bool
    again: bool

    def prompt_tokens(self, lengths: Mapping[str, Length]) -> int:
        """Return the tokens of the prompt, with answers in it as long as those of their stages are assumed to be."""
        if self.again:
            return 0
        # No answer is longer than what stands for it: the rest of its tokens is thinking, which no prompt has.
        shorter = (max(0, round(tokens - lengths[stage].tokens)) * times for stage, tokens, times in self.quotes)
        return self.tokens - sum(shorter)


@dataclass(slots=True)
class _Row:
    batch: Batch
    dialogues: list[list[_Call]] = field(default_factory=list)
    will_not_fit: int = 0
    exemplars_dropped: int = 0
    shared: int = 0


class Estimator:
    """Estimates runs of one model that share an engine; a `PlanObserver`.

    Args:
        hardware: Measures the peak of this device, for the roofline; None to take only one that a result has.
        on_estimate: Called with the estimate before the engine starts.

    Attributes:
        estimate: The estimate, once everything is planned.
    """

    def __init__(
        self,
        hardware: "Callable[[], Hardware] | None" = None,
        on_estimate: Callable[[Estimate], None] | None = None,
    ) -> None:
        self._hardware, self._on_estimate = hardware, on_estimate
        self._rows: dict[int, _Row] = {}
        self._pipeline: Pipeline | None = None
        self._hosted: HostedTokenizer | None = None
        self._rules: CacheRules | None = None
        self._cache_how = ""
        self._counted: dict[str, int] = {}
        self.estimate: Estimate | None = None

    def add(self, batch: Batch) -> None:
        """Announce a batch; one without pending dialogues is a row of zeros."""
        if self._pipeline is None:
            self._pipeline = pipeline = batch.pipeline
            self._rules, self._cache_how = cache_rules(pipeline)
            if not pipeline.runs_here:
                self._hosted = HostedTokenizer(pipeline.profile.model or pipeline.profile.name)
        self._rows.setdefault(id(batch), _Row(batch))

    def planned(
        self, batch: Batch, draft: Draft, calls: Sequence[PlannedCall], outcome: Response | EngineError
    ) -> None:
        """Take in a dialogue; see `PlanObserver`."""
        self.add(batch)
        row = self._rows[id(batch)]
        row.exemplars_dropped += isinstance(outcome, Response) and any(stage.dropped for stage in outcome.stages)
        taken: list[_Call] = []
        adapter = batch.pipeline.adapter
        before: Sequence[object] = ()
        previous: PlannedCall | None = None
        for call in calls:
            tokens = call.tokens
            if tokens is None:
                assert self._hosted is not None, "a model that runs here has a tokenizer"
                tokens = self._hosted.encode(call.messages)
            block = self._rules.block if self._rules else 0
            taken.append(
                _Call(
                    # One's own flow may call the engine without saying for which stage.
                    stage=call.stage or "reply",
                    tokens=len(tokens),
                    quotes=[(quote.stage or "reply", self._count(quote.text), quote.times) for quote in call.quotes],
                    limit=call.sampling.most_tokens,
                    label=self._longest_label(call.sampling),
                    key=request_key(call.messages, call.sampling, adapter),
                    blocks=chain(tokens, block, "" if adapter is None else adapter.sha256) if block else (),
                    continues=bool(taken) and tokens[: len(before)] == before,
                    again=self._hosted is not None and previous is not None and _are_candidates(previous, call),
                )
            )
            before, previous = tokens, call
        row.will_not_fit += isinstance(outcome, PromptTooLongError) or self._over(taken)
        row.dialogues.append(taken)

    def ready(self) -> None:
        """Make the estimate; see `PlanObserver`."""
        # As they are answered: rows with more stages first.
        order = sorted(self._rows.values(), key=lambda row: -max(map(len, row.dialogues), default=0))
        sources = LengthSources()
        lengths = {id(row.batch): _lengths(row, sources) for row in order}
        self._share(order)
        cached = self._cached(order, lengths)
        calls = sum(len(dialogue) for row in order for dialogue in row.dialogues)
        speeds = self._speeds()
        rows = [self._row(row, lengths[key], cached, speeds, calls) for key, row in self._rows.items()]
        starts = [speed.start_seconds for speed, _ in speeds.values() if speed is not None]
        left = None if self._pipeline is None else self._pipeline.budget.left
        start = next((start for start in starts if start is not None), None)
        self.estimate = Estimate(tuple(rows), start, budget=left)
        if self._on_estimate is not None:
            self._on_estimate(self.estimate)

    def row(self, batch: Batch) -> RowEstimate | None:
        """Return the estimate of one batch; None if there is none."""
        rows = () if self.estimate is None else self.estimate.rows
        return next((row for key, row in zip(self._rows, rows, strict=False) if key == id(batch)), None)

    def _speeds(self) -> dict[str, tuple[Speed | None, str]]:
        """Return the speed for each strategy, and how it is known; empty if a server answers."""
        speeds: dict[str, tuple[Speed | None, str]] = {}
        for row in self._rows.values():
            pipeline = row.batch.pipeline
            if row.dialogues and pipeline.runs_here and pipeline.strategy.name not in speeds:
                speeds[pipeline.strategy.name] = find_speed(pipeline, self._hardware)
        return speeds

    def _share(self, order: Sequence[_Row]) -> None:
        """Take away the calls that are answered by another row's identical request."""
        if sum(bool(row.dialogues) for row in order) < 2:
            return
        asked: set[bytes] = set()
        for row in order:
            for dialogue in row.dialogues:
                own = [call for call in dialogue if call.key is None or call.key not in asked]
                row.shared += len(dialogue) - len(own)
                asked.update(call.key for call in own if call.key is not None)
                dialogue[:] = own

    def _count(self, text: str) -> int:
        """Return the tokens of an answer."""
        if text not in self._counted:
            if self._hosted is not None:
                self._counted[text] = self._hosted.count(text)
            else:
                assert self._pipeline is not None, "`add` comes first"
                tokenizer = self._pipeline.tokenizer
                self._counted[text] = len(tokenizer.ids(text)) - len(tokenizer.ids(""))
        return self._counted[text]

    def _longest_label(self, sampling: Sampling) -> int | None:
        labels = labels_of(sampling.schema)
        if not labels:
            return None
        longest = max(labels, key=len)  # an engine here is held to the label itself
        return self._count(longest if self._hosted is None else label_answer(longest))

    def _over(self, calls: Sequence[_Call]) -> bool:
        """Whether a server will refuse a dialogue, as far as its tokens are known."""
        limit = None if self._hosted is None or self._pipeline is None else self._pipeline.profile.context_length
        return limit is not None and any(call.tokens + call.limit > limit for call in calls)

    def _cached(self, order: Sequence[_Row], lengths: dict[int, dict[str, Length]]) -> dict[tuple[int, int, int], int]:
        """Return the cached tokens of each call, by row, dialogue and stage."""
        rules = self._rules
        if rules is None:
            return {}
        dialogues = [(row, number) for row in order for number in range(len(row.dialogues))]
        requests = (_requests(row.dialogues[number], lengths[id(row.batch)], rules) for row, number in dialogues)
        found = {}
        for index, stage, tokens in cached_tokens(requests, rules):
            row, number = dialogues[index]
            found[id(row.batch), number, stage] = tokens
        return found

    def _row(
        self,
        row: _Row,
        lengths: dict[str, Length],
        cached: dict[tuple[int, int, int], int],
        speeds: dict[str, tuple[Speed | None, str]],
        calls_together: int,
    ) -> RowEstimate:
        batch = row.batch
        calls = prompt = shared = most = written = 0
        reply = 0.0
        price = batch.pipeline.profile.price
        for number, dialogue in enumerate(row.dialogues):
            for stage, call in enumerate(dialogue):
                tokens = call.prompt_tokens(lengths)
                calls, prompt, most = calls + 1, prompt + tokens, most + call.limit
                shared += cached.get((id(batch), number, stage), 0)
                written += tokens if tokens >= _SMALLEST_WRITE else 0
                reply += lengths[call.stage].tokens
        seconds = None
        speed, speed_how = speeds.get(batch.pipeline.strategy.name, (None, "not estimated: a server answers"))
        if speed is not None:
            at_once = min(self._rules.at_once if self._rules else calls_together, calls_together)
            seconds = speed.seconds(Work(prompt - shared, reply, at_once))
        dollars = None
        if price is not None and calls:
            dollars = _dollars(price, batch.pipeline.tier, Usage(prompt, round(reply)), shared, written, most)
        how = {
            "tokens": self._tokens_how(row),
            "cache": self._cache_how,
            "replies": _replies_how(row, lengths),
            "seconds": speed_how,
            "dollars": _dollars_how(batch.pipeline, price),
        }
        return RowEstimate(
            name=batch.name,
            model=batch.pipeline.profile.name,
            strategy=batch.pipeline.strategy.name,
            dialogues=len(batch.chosen),
            pending=len(row.dialogues),
            calls=calls,
            prompt_tokens=prompt,
            cached_tokens=None if self._rules is None else shared,
            reply_tokens=round(reply),
            most_reply_tokens=most,
            will_not_fit=row.will_not_fit,
            exemplars_dropped=row.exemplars_dropped,
            shared=row.shared,
            seconds=seconds,
            dollars=dollars,
            how=how,
        )

    def _tokens_how(self, row: _Row) -> str:
        how = "by the model's tokenizer" if self._hosted is None else self._hosted.how
        flow = row.batch.pipeline.strategy.flow
        if isinstance(flow, StagedFlow) and any(stage.when for stage in flow.file.stages):
            how += "; stages that run only after some answers are counted for every dialogue"
        if any(call.quotes for dialogue in row.dialogues for call in dialogue):
            how += "; an earlier answer in a prompt is taken as long as replies are assumed to be"
        return how


_SMALLEST_WRITE = 1024


def _are_candidates(one: PlannedCall, other: PlannedCall) -> bool:
    return one.stage == other.stage and list(one.messages) == list(other.messages)


def _lengths(row: _Row, sources: LengthSources) -> dict[str, Length]:
    """Return the assumed lengths of a row's completions, by stage."""
    found = ReplyLengths(row.batch, sources)
    calls = {call.stage: call for dialogue in row.dialogues for call in dialogue}
    most = max(map(len, row.dialogues), default=1)
    return {stage: found.of(stage, call.limit, most, call.label) for stage, call in calls.items()}


def _requests(dialogue: Sequence[_Call], lengths: dict[str, Length], rules: CacheRules) -> list[Request]:
    """Return what the cache sees of a dialogue, with the assumed lengths of its answers."""
    requests = []
    for number, call in enumerate(dialogue):
        reply = lengths[call.stage].tokens
        tokens = call.prompt_tokens(lengths)
        blocks = call.blocks
        if number + 1 < len(dialogue) and dialogue[number + 1].continues:
            # The next prompt contains this one with its answer, whose last token has not been computed.
            blocks = dialogue[number + 1].blocks[: (tokens + round(reply) - 1) // rules.block if rules.block else 0]
        elif rules.block:
            blocks = blocks[: tokens // rules.block]
        requests.append(Request(tokens, round(reply), blocks))
    return requests


def _replies_how(row: _Row, lengths: Mapping[str, Length]) -> str:
    stages = dict.fromkeys(call.stage for dialogue in row.dialogues for call in dialogue)
    return "; ".join(f"{stage}: {lengths[stage].tokens:.0f} tokens, {lengths[stage].how}" for stage in stages)


def _dollars(price: Price, asked: str | None, counts: Usage, cached: int, written: int, most: int) -> Dollars | None:
    """Return the prices of what will be asked in each tier; None if the tier that is asked for has none."""
    chosen = billed_tier(None, asked)
    plain = replace(counts, cache_write_tokens=written)
    with_cache = plain if price.cache_write is not None else replace(counts, cached_tokens=cached)
    of = {tier: price.of(counts if tier == "batch" else with_cache, tier) for tier in TIERS}
    standard, longest = price.of(plain), price.of(replace(plain, completion_tokens=most), chosen)
    if standard is None or longest is None:
        return None
    discounted = None if price.cached is None and price.cache_write is None else price.of(with_cache)
    return Dollars(standard, discounted, of["batch"], longest, of["flex"], of["priority"], of.get(chosen))


def _dollars_how(pipeline: Pipeline, price: Price | None) -> str:
    if pipeline.runs_here:
        return "none: the model runs here"
    if price is None:
        return f"unknown: no list price of {pipeline.profile.name} is known"
    chosen = billed_tier(None, pipeline.tier)
    if price.rates(chosen) is None:
        return f"unknown: no price of {pipeline.profile.name} in the {chosen} tier is known"
    parts = [f"list price of {price.as_of}: {price.prompt:g} / {price.completion:g} US dollars per million tokens"]
    parts.append("price of cached tokens unknown" if price.cached is None else f"{price.cached:g} for cached ones")
    if price.cache_write is not None:
        parts.append(f"prompts of 1,024 tokens or more are written to its cache, for {price.cache_write:g}")
    for tier in TIERS:
        if (rates := price.rates(tier)) is not None:
            without = ", without cache" if tier == "batch" else ""
            parts.append(f"{tier} tier {rates.prompt:g} / {rates.completion:g}{without}")
    return "; ".join([*parts, *([f"asked for: the {chosen} tier"] if chosen else [])])
