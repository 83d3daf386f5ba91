"""Dummy models: a model's speed from its configuration alone, with random weights (`load_format = "dummy"`).

Speed depends on the sizes of weights, not on their values. The replies mean nothing, so the model's name and origin say
"dummy" wherever they appear. The tokenizer is SmolLM2's, whose files are small and always available.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from localemp.bench.roofline.architectures import number
from localemp.errors import LocalempError, OptionError, UnknownNameError, WeightsError
from localemp.models import hub, weights
from localemp.models.profiles import load_profile, safe_name
from localemp.pipeline.config import RunConfig
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.paths import at_home, resource
from localemp.utils.plain_errors import in_words

_TOKENIZER = "smollm2"
_TOKENIZER_FILES = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges")
# Language models inside models of several modes, and what vLLM calls them when they stand alone.
_ALONE = {
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma4_text": "Gemma4ForCausalLM",
    "ministral3": "MistralForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
}
_ORIGIN = "origin.txt"


def dummy_config(run_config: RunConfig, folder: Path) -> RunConfig:
    """Return the same configuration with a dummy model, which is created in a folder.

    Args:
        run_config: The configuration. Its model may also be a `config.json`, or one of the included shapes.
        folder: The parent of the model's folder; it must exist as long as the configuration is used.

    Raises:
        OptionError: The model's configuration is missing or unusable.
        WeightsError: SmolLM2's tokenizer is missing.
    """
    config, origin = _configuration(run_config.model)
    config = _language_model(config, run_config.model)
    source = weights.resolve(load_profile(_TOKENIZER)).folder
    if (ids := _tokenizer_size(source)) > (size := number(config, "vocab_size", 0)):
        config["vocab_size"] = ids
        origin += f", its vocabulary of {size:,} made {ids:,} for the tokenizer of {_TOKENIZER}"
    config |= _ends(source)
    made = folder / f"{safe_name(Path(run_config.model.rstrip('/')).name.removesuffix('.json'))}-dummy"
    made.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name.startswith(_TOKENIZER_FILES):
            shutil.copy(path, made / path.name)
    (made / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    (made / _ORIGIN).write_text(origin, "utf-8")
    (made / "model.safetensors").write_bytes(_no_weights())
    return replace(run_config, model=str(made), engine_args={**run_config.engine_args, "load_format": "dummy"})


def dummy_origin(run_config: RunConfig) -> str | None:
    """Return the origin of a configuration made by `dummy_config`; None for any other."""
    if run_config.engine_args.get("load_format") != "dummy":
        return None
    path = Path(run_config.model) / _ORIGIN
    return f"dummy weights: {path.read_text('utf-8', 'replace')}" if path.is_file() else "dummy weights"


def dummy_notes(run_config: RunConfig) -> list[str]:
    """Return notes for a result: the origin of dummy weights; empty for other models."""
    origin = dummy_origin(run_config)
    return [] if origin is None else [origin]


def shipped_shapes() -> dict[str, Path]:
    """Return the published configurations included in localemp, by name."""
    return {path.stem: path for path in sorted(resource("models", "shapes").glob("*.json"))}


def _configuration(model: str) -> tuple[dict[str, Any], str]:
    """A model's configuration from the first place that has it, and the name of that place."""
    path, shapes = at_home(model), shipped_shapes()
    if path.suffix == ".json" and path.is_file():
        return _read(path), f"configuration from {path}"
    try:
        profile = load_profile(model, "chat")
    except UnknownNameError as error:
        if model in shapes:
            return _shipped(shapes[model])
        raise OptionError(f"there is no model {model!r} to make up weights for", _hint()) from error
    if profile.hosted:
        raise OptionError(f"{model} answers on a server, and its configuration is not public", _hint())
    if (place := weights.find(profile)) is not None:
        return _read(place.folder / "config.json"), f"configuration from {place.folder}"
    if profile.merged is not None:  # an adapter changes no shape
        return _configuration(profile.merged.base)
    reason = "its weights are not on this machine, and it is on no hub"
    if profile.hub is not None:
        try:
            return _read(hub.fetch_config(profile.hub)), f"configuration from the Hugging Face hub, {profile.hub.id}"
        except LocalempError as error:
            reason = error.message
        known = {_read(shape).get("_name_or_path"): shape for shape in shapes.values()}
        if (shape := shapes.get(model) or known.get(profile.hub.id)) is not None:
            return _shipped(shape)
    raise OptionError(f"no configuration of {model} found: {reason}", _hint())


def _shipped(path: Path) -> tuple[dict[str, Any], str]:
    config = _read(path)
    return config, f"configuration of {config['_name_or_path']} as published, which ships with localemp"


def _hint() -> str:
    names = ", ".join(shipped_shapes())
    return f"with --load-format dummy, --model also takes a config.json, its folder, or an included shape: {names}"


def _read(path: Path) -> dict[str, Any]:
    try:
        config = load_json(path)
    except (OSError, JSONError) as error:
        raise OptionError(
            f"{path}: no readable configuration: {in_words(error)}", "give a model's config.json"
        ) from error
    if not isinstance(config, dict) or "architectures" not in config:
        raise OptionError(f"{path}: it names no architectures, so it is not a model's configuration", _hint())
    return config


def _language_model(config: dict[str, Any], model: str) -> dict[str, Any]:
    """The language model alone: images and audio would need processors besides the tokenizer."""
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        return dict(config)
    kind = inner.get("model_type")
    if kind not in _ALONE:
        raise OptionError(f"{model}: a language model of type {kind!r} inside another cannot be timed alone", _hint())
    kept = ("torch_dtype", "dtype", "quantization_config", "tie_word_embeddings")
    outer = {key: config[key] for key in kept if key in config}
    return outer | inner | {"architectures": [_ALONE[kind]]}


def _tokenizer_size(folder: Path) -> int:
    """The size of a tokenizer's vocabulary, up to the largest id."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = load_json(path)
        added = [token["id"] for token in tokenizer.get("added_tokens", ())]
        ids: list[int] = [*tokenizer["model"]["vocab"].values(), *added]
        return 1 + max(ids)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: no readable tokenizer: {in_words(error)}", f"localemp models pull {_TOKENIZER}"
        ) from error


def _ends(folder: Path) -> Mapping[str, Any]:
    """The tokenizer's ids for begin, end and padding, in place of the model's own."""
    config = _read(folder / "config.json")
    return {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _no_weights() -> bytes:
    """A safetensors file without tensors: a folder of weights has one."""
    header = json.dumps({"__metadata__": {"format": "pt", "made_up": "there are no weights: load_format=dummy"}})
    return len(header).to_bytes(8, "little") + header.encode()
