"""The trace of a strategy's response, for clients that ask for it."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from localemp.strategies.base import Response, Stage


def trace_of(name: str, adapter: str, variant: str, response: Response, lookup: float, total: float) -> dict[str, Any]:
    """Return a trace.

    Args:
        name: The strategy's name.
        adapter: The name of the model's adapter; empty for none.
        variant: The variant of its prompts.
        response: The response, with all of its stages.
        lookup: Seconds until exemplars and inferences were there.
        total: Seconds of the whole request.
    """
    stages: dict[str, float] = {}
    for stage in response.stages:  # candidates are made at once
        stages[stage.name] = max(stage.completion.seconds, stages.get(stage.name, 0.0))
    seconds = {"lookup": lookup} | stages | {"all": total}
    return {
        "strategy": name,
        "adapter": adapter or None,
        "variant": variant,
        "stages": [_stage(stage) for stage in response.stages],
        "exemplars": [
            {"id": shown.dialogue.id, "turns": list(shown.dialogue.complete_turns), "score": shown.score}
            for shown in response.exemplars
        ],
        "inferences": None if response.inferences is None else dict(response.inferences),
        "inferences_dropped": {relation: _as_dicts(dropped) for relation, dropped in response.dropped.items()},
        "seconds": {part: round(value, 4) for part, value in seconds.items()},
        **({"skipped": list(response.skipped)} if response.skipped else {}),
    }


def _stage(stage: Stage) -> dict[str, Any]:
    completion = stage.completion
    return {
        "name": stage.name,
        "messages": _as_dicts(stage.messages),
        "text": completion.text,
        "answer": stage.answer,
        "thinking": completion.thinking,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "cached_tokens": completion.cached_tokens,
        "thinking_tokens": completion.thinking_tokens,
        "seconds": round(completion.seconds, 4),
        "exemplars_dropped": stage.dropped,
        "sampling": dict(stage.sampling),
        "notes": list(completion.notes),
    }


def _as_dicts(items: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]
