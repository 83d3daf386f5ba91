"""`respond`: answer one dialogue, by a running server or by the model in this process."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Unpack

from localemp.dialogue import Dialogue
from localemp.models.adapters import adapter_name
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.responder import Responder
from localemp.runs.run import stage_record, thinking_tokens
from localemp.serving.api_key import key_to_send
from localemp.serving.client import ServedResponder
from localemp.serving.finding import find_server
from localemp.strategies.base import Response
from localemp.strategies.registry import canonical_name, strategy_options
from localemp.utils.asynchronous import run_here
from localemp.utils.progress import OnProgress, silent
from localemp.utils.redaction import redact_settings

AnyResponder = Responder | ServedResponder
# Named apart from other settings, or without any effect on a reply.
_APART = ("model", "strategy", "variant", "seed", "max_tokens", "temperature", "top_p", "sampling", "concurrency")


def respond(
    said: str | Sequence[str] | Dialogue,
    config: RunConfig | None = None,
    *,
    server: str = "auto",
    on_text: Callable[[str], object] | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> Response:
    """Answer one dialogue. For several, a `Responder` starts the model once.

        respond("I lost my job today.", model="llama", strategy="two-stage").reply

    Args:
        said: The speaker's text; or all turns so far, the speaker's first; or a dialogue.
        config: The configuration; alternatively, give its settings as keywords.
        server: "auto" to use a `localemp serve` of this user on this machine that would give the same reply, "none" to
            load the model in this process, or the URL of a server.
        on_text: Called with pieces of the reply while it is written.
        on_progress: Called while weights are fetched and training dialogues embedded.
        **settings: Settings of `RunConfig`.

    Raises:
        LocalempError: Something is missing or invalid, or the request failed.
    """
    work = respond_async(said, config, server=server, on_text=on_text, on_progress=on_progress, **settings)
    return run_here(work, "await respond_async(...)")


async def respond_async(
    said: str | Sequence[str] | Dialogue,
    config: RunConfig | None = None,
    *,
    server: str = "auto",
    on_text: Callable[[str], object] | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> Response:
    """Answer one dialogue, for asynchronous programs; see `respond`."""
    async with choose_responder(RunConfig.of(settings, config), server, on_progress) as responder:
        return await responder(said, on_text=on_text)


def choose_responder(config: RunConfig, server: str = "auto", on_progress: OnProgress = silent) -> AnyResponder:
    """Return what answers: a running server, or the model in this process, which is not started yet.

    Logs which server is used, or why one that runs is not.

    Raises:
        LocalempError: The strategy does not exist, options do not fit it, or the server at a URL cannot be used.
    """
    pipeline = Pipeline(config, on_progress)
    pipeline.check_options()
    found = find_server(server, pipeline)
    return (
        Responder(config, on_progress=on_progress) if found is None else ServedResponder(found, pipeline, key_to_send())
    )


def reply_record(response: Response, responder: AnyResponder) -> dict[str, Any]:
    """Return a response as one JSON object: the reply, how it was made, and by what."""
    pipeline = responder.pipeline
    stages = [stage_record(stage) for stage in response.stages]
    return {
        "reply": response.reply,
        "finish_reason": response.finish_reason,
        "model": model_of(pipeline),
        "strategy": canonical_name(pipeline.config.strategy),
        "tokens": {
            "prompt": _sum(stage["prompt_tokens"] for stage in stages),
            "completion": _sum(stage["completion_tokens"] for stage in stages),
            "thinking": _sum(map(thinking_tokens, stages)),
            "cached": _sum(stage["cached_tokens"] for stage in stages),
        },
        "stages": stages,
        "exemplars": [{"id": shown.dialogue.id, "score": shown.score} for shown in response.exemplars],
        "inferences": None if response.inferences is None else dict(response.inferences),
        "settings": reply_settings(pipeline),
        "server": responder.server.url if isinstance(responder, ServedResponder) else None,
    }


def reply_settings(pipeline: Pipeline) -> dict[str, Any]:
    """Return the settings behind a reply, by their names in `RunConfig`."""
    config = pipeline.config
    own = {option.name: config.options[option.name] for option in strategy_options(config.strategy)}
    changed = {name: value for name, value in config.changed().items() if name not in (*_APART, *own)}
    told = {"variant": config.variant, "seed": config.seed, "sampling": pipeline.sampling.describe(), **own, **changed}
    plain = {name: str(value) if hasattr(value, "__fspath__") else value for name, value in told.items()}
    return redact_settings(plain)


def model_of(pipeline: Pipeline) -> str:
    """Return the name of a pipeline's model, with its adapter's; neither is loaded."""
    adapter = pipeline.config.adapter
    return pipeline.profile.name if adapter is None else f"{pipeline.profile.name}@{adapter_name(adapter)}"


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the counts of all stages; None if one is unknown."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)
