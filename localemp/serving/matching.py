"""Whether a running server answers as this machine would by itself: same model, prompts, strategy and sampling."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from localemp.engines.registry import CAPACITY_ARGS
from localemp.errors import LocalempError
from localemp.models.adapters import find_adapter
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.flow import FACTS
from localemp.prompting.template import bundled_variants
from localemp.serving.flows import read_flows
from localemp.serving.names import ModelNames
from localemp.serving.running import RunningServer, profile_hash
from localemp.strategies.base import Flow
from localemp.strategies.flows import GIVEN_FACTS, zero_shot
from localemp.strategies.registry import find_part, is_flow_file, parse_strategy, strategy_options
from localemp.utils.option import Option

# Compared apart, or without any effect on a reply.
_APART = frozenset(
    ["model", "adapter", "strategy", "variant", "options", "engine_args", "script", "concurrency", "keep_thinking"]
)


def why_not(server: RunningServer, pipeline: Pipeline) -> str:
    """Return why a server would not answer as the pipeline would by itself; empty if it would.

    Args:
        server: The server.
        pipeline: What the user asked for.

    Raises:
        LocalempError: The strategy or the adapter that was asked for does not exist.
    """
    return next(_reasons(server, pipeline), "")


def _reasons(server: RunningServer, pipeline: Pipeline) -> Iterator[str]:
    config, profile = pipeline.config, pipeline.profile
    if server.model != profile.name:
        yield f"you asked for {profile.name}"
    if server.localemp != version("localemp"):
        yield f"it is localemp {server.localemp}, and this is {version('localemp')}"
    if server.profile_sha256 != profile_hash(profile):
        yield f"its profile of {profile.name} is another"
    try:
        theirs = server.to_config()
    except (LocalempError, ValidationError):
        yield "it has settings that this version does not know"
        return
    yield from _different_args(server.engine_args, config.engine_args)
    for each in fields(RunConfig):
        ours, others = getattr(config, each.name), getattr(theirs, each.name)
        if each.name not in _APART and ours != others:
            yield f"its --{each.name.replace('_', '-')} is {_shown(others)}, and yours {_shown(ours)}"
    if config.keep_thinking or theirs.keep_thinking:
        yield "it writes the thinking of --keep-thinking in another form"
    if config.variant not in bundled_variants():
        yield f"the prompts of {config.variant} are a file, which a server may have read before it changed"
    yield from _different_strategy(server, config)
    yield from _different_options(theirs, config, pipeline)
    if config.adapter is not None and find_adapter(config.adapter).sha256 not in server.adapters.values():
        yield f"it does not have the adapter {config.adapter}"


def _different_args(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """Compare engine arguments that can change a reply; as texts, since vLLM's options are."""
    for name in sorted((theirs.keys() | ours.keys()) - CAPACITY_ARGS):
        if str(theirs.get(name)) != str(ours.get(name)):
            yield f"its engine argument {name} is {_shown(theirs.get(name))}, and yours {_shown(ours.get(name))}"


def _different_strategy(server: RunningServer, config: RunConfig) -> Iterator[str]:
    name = name_at(server, config.strategy)
    if name not in server.strategies:
        yield f"it does not offer {config.strategy}"
    files = [part for part in parse_strategy(config.strategy) if is_flow_file(part)]
    for stem, text in read_flows(files).items():
        if server.flows.get(stem) != hashlib.sha256(text.encode()).hexdigest():
            yield f"its flow {stem} has another text"


def _different_options(theirs: RunConfig, config: RunConfig, pipeline: Pipeline) -> Iterator[str]:
    for option in strategy_options(config.strategy):
        ours, others = config.options[option.name], theirs.options[option.name]
        if option is not GIVEN_FACTS and ours != others and not _can_be_sent(option, ours):
            yield f"its {option.flag} is {_shown(others)}, and yours {_shown(ours)}"
    flow = flow_of(pipeline)
    if GIVEN_FACTS in strategy_options(config.strategy) and set(flow.facts) != set(config.options[GIVEN_FACTS.name]):
        yield f"{config.strategy} shows facts that are not --given, which a request cannot say"


def _can_be_sent(option: Option, value: Any) -> bool:
    if option.in_requests is None:
        return False
    try:
        TypeAdapter(option.in_requests).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value is None or value == {} else str(value)


def name_at(server: RunningServer, strategy: str) -> str:
    """Return a strategy's name at a server, where a flow's file is called by its stem."""
    wanted = sorted(Path(part).stem if is_flow_file(part) else part for part in parse_strategy(strategy))
    return next((name for name in server.strategies if sorted(name.split("+")) == wanted), "+".join(wanted))


def model_at(server: RunningServer, config: RunConfig) -> str:
    """Return the name that a request gives the model at a server that matches."""
    adapter = ""
    if config.adapter is not None:
        digest = find_adapter(config.adapter).sha256
        adapter = next(name for name, sha256 in server.adapters.items() if sha256 == digest)
    return ModelNames(server.model).of(adapter, name_at(server, config.strategy))


def options_for(config: RunConfig, flow: Flow, facts: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the key `localemp` of a request that asks for what the config does.

    Args:
        config: The config.
        flow: The strategy's flow.
        facts: The dialogue's emotion and situation, as far as they are known.
    """
    told: dict[str, Any] = {"variant": config.variant, "trace": True}
    told |= {name: facts[name] for name in FACTS if name in flow.facts and facts.get(name)}
    own = strategy_options(config.strategy)
    return told | {option.name: config.options[option.name] for option in own if option.in_requests is not None}


def flow_of(pipeline: Pipeline) -> Flow:
    """Return the flow of a pipeline's strategy; nothing else of it is loaded."""
    parts = map(find_part, parse_strategy(pipeline.config.strategy))
    made = [part.make(pipeline.context) for part in parts if part.place == "flow"]
    return next((part for part in made if isinstance(part, Flow)), zero_shot(pipeline.context.template))
