"""Asks for recorded answers again: the same messages, other batches, an empty prefix cache.

Every stage is asked with the messages that were recorded, so that a second stage has the same prompt even where the
first one is answered differently now.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.pipeline.generate import failed_alone, for_all
from localemp.pipeline.recorded import changed_sampling
from localemp.runs.verified import AtBatchSize, FailedCall, Parting, worst
from localemp.sampling import Sampling
from localemp.utils.progress import OnProgress, Progress, silent

Tokenize = Callable[[str], list[int]]

_SHOWN_BEFORE, _SHOWN_AFTER = 40, 80  # characters


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One stage of a recorded reply.

    Attributes:
        id: Of the dialogue.
        stage: Its name.
        messages: The prompt.
        text: The answer.
        thinking, finish_reason, completion_tokens: As recorded; None if unknown.
        cost: US dollars; None if unknown.
        sampling: Its sampling parameters.
    """

    id: str
    stage: str
    messages: tuple[Message, ...]
    text: str
    thinking: str | None
    finish_reason: str | None
    completion_tokens: int | None
    cost: float | None
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """What came of it at one batch size."""

    result: AtBatchSize
    outcomes: Mapping[str, set[str]]
    partings: Sequence[Parting]
    failures: Sequence[FailedCall]


def recorded_calls(record: Mapping[str, Any], sampling: Sampling) -> list[RecordedCall]:
    """Return the stages of a line of a run; none if it has an error, or if a stage's prompt is not recorded.

    Args:
        record: The line.
        sampling: The run's sampling parameters; stages may have others of their own.

    Raises:
        ValueError: Those of a stage are damaged.
    """
    stages = record.get("stages", ())
    if not all(stage["messages"] for stage in stages):
        return []
    return [
        RecordedCall(
            record["id"],
            stage["name"],
            tuple(Message(message["role"], message["content"]) for message in stage["messages"]),
            stage["text"],
            stage.get("thinking"),
            stage["finish_reason"],
            stage["completion_tokens"],
            stage["cost"],
            changed_sampling(sampling, stage.get("sampling", {})),
        )
        for stage in stages
        if stage["prompt_tokens"] != 0  # a further answer to one request cannot be asked for alone
    ]


async def ask_again(
    engine: Engine,
    calls: Sequence[RecordedCall],
    batch_size: int,
    seed: int = 0,
    tokenize: Tokenize | None = None,
    on_progress: OnProgress = silent,
) -> AskedAgain:
    """Ask for all answers again and compare them.

    Args:
        engine: The started engine.
        calls: The recorded calls.
        batch_size: Requests in flight.
        seed: Of the order of requests, which is another one at each batch size.
        tokenize: Returns the tokens of a text; None if only a server could.
        on_progress: Called with requests answered.

    Raises:
        FatalEngineError: No further request can succeed.
    """
    cold = await engine.reset_prefix_cache()
    order = list(range(len(calls)))
    random.Random(f"{seed} {batch_size}").shuffle(order)
    answers: dict[int, Completion | FailedCall] = {}

    async def ask(number: int) -> None:
        call = calls[number]
        try:
            answers[number] = await engine.chat(call.messages, call.sampling)
        except Exception as error:
            failure = failed_alone(call.id, error)["error"]
            answers[number] = FailedCall(id=call.id, stage=call.stage, batch_size=batch_size, error=failure)
        on_progress(Progress(f"Asking at batch size {batch_size}", len(answers), len(calls), "requests"))

    await for_all(order, ask, batch_size)
    outcomes: dict[str, set[str]] = {call.id: set() for call in calls}
    partings, failures = [], []
    for number, call in enumerate(calls):
        answer = answers[number]
        if isinstance(answer, FailedCall):
            failures.append(answer)
            outcomes[call.id].add("failed")
        elif parting := part(call, answer, batch_size, tokenize):
            partings.append(parting)
            outcomes[call.id].add("different")
    equal, different, failed = worst(outcomes)
    result = AtBatchSize(
        batch_size=batch_size,
        in_flight=min(batch_size, len(calls)),
        cold=cold,
        equal=equal,
        different=different,
        failed=failed,
    )
    return AskedAgain(result, outcomes, partings, failures)


def part(call: RecordedCall, answer: Completion, batch_size: int, tokenize: Tokenize | None = None) -> Parting | None:
    """Return where an answer parts from the recorded one; None if they are equal, thinking and counts included."""
    where: dict[str, Any] = {"id": call.id, "stage": call.stage, "batch_size": batch_size}
    texts: list[tuple[Literal["thinking", "text"], str | None, str]] = [
        ("thinking", call.thinking, answer.thinking),
        ("text", call.text, answer.text),
    ]
    for what, before, now in texts:
        if before is not None and before != now:
            at = _in_common(before, now)
            return Parting(
                **where,
                what=what,
                character=at,
                word=_in_common(before.split(), now.split()),
                token=None if tokenize is None else _in_common(tokenize(before), tokenize(now)),
                common=before[max(0, at - _SHOWN_BEFORE) : at],
                before=before[at : at + _SHOWN_AFTER],
                now=now[at : at + _SHOWN_AFTER],
            )
    ends = {
        name: (getattr(call, name), getattr(answer, name))
        for name in ("finish_reason", "completion_tokens")
        if None not in (getattr(call, name), getattr(answer, name))
    }
    if all(before == now for before, now in ends.values()):
        return None
    text = call.text
    told = [", ".join(f"{name} {pair[which]}" for name, pair in ends.items()) for which in (0, 1)]
    return Parting(
        **where,
        what="end",
        character=len(text),
        word=len(text.split()),
        token=None if tokenize is None else len(tokenize(text)),
        common=text[-_SHOWN_BEFORE:],
        before=told[0],
        now=told[1],
    )


def _in_common(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how long the common beginning is."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
