"""The families that models belong to: one maker's models, and what others made of them.

A judge may prefer the replies of its own family, whatever the name under which it runs. A family is recognised by what
is recorded of a model: its names, where its weights came from, and what the files beside the weights say that these
were made of. Where nothing is recognised there is no family: nothing is guessed.

    families_of({"model": "mine", "weights_origin": "org/Qwen2.5-7B-support"})  # {"Qwen"}
    families_in("Vicuna-7B")  # {"Llama"}
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from localemp.models.profiles import HubSource, is_hub_id
from localemp.utils.files import open_regular
from localemp.utils.json_reader import JSONError, parse_json

FAMILIES: Final[Mapping[str, str]] = {
    "OpenAI": r"gpt[-_ ]?(?:[3-9]|oss)|chatgpt|(?:text-)?(?:davinci|babbage)-|(?<![^/])o[134](?:-mini|-pro|-preview|$)",
    "Claude": r"claude",
    "Google": r"(?:code|med|shield)?gemma|gemini",
    "Llama": r"(?:code)?llama(?![.-]cpp|_cpp|file|_?index)|vicuna|alpaca",
    "Mistral": r"mistral|mixtral|ministral|codestral|magistral|pixtral|zephyr",
    "Qwen": r"qwen|qwq|qvq",
    "DeepSeek": r"deepseek",
    "Phi": r"phi[-_ ]?\d|(?<![^/])phi$",
    "SmolLM": r"smollm",
    "Cohere": r"cohere|c4ai|command-[ar](?![a-z])|aya-(?:\d|expanse|vision)",
    "GLM": r"(?:chat)?glm[-_]?\d",
    "OLMo": r"olmo",
    "Falcon": r"falcon",
    "Granite": r"granite",
    "InternLM": r"internlm",
    "Yi": r"yi-(?:\d|large|lightning)",
    "Grok": r"grok",
    "Kimi": r"kimi|moonshot",
    "Hunyuan": r"hunyuan",
    "EXAONE": r"exaone",
}
"""For each family a pattern that stands at the beginning of a word in the names of its models; case does not matter."""

_PATTERNS = {family: re.compile(rf"(?<![a-z0-9])(?:{told})", re.IGNORECASE) for family, told in FAMILIES.items()}
_NAMES = ("model", "served_model", "weights_origin")
_BASE = re.compile(r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?([^\s#]{1,200})", re.MULTILINE)  # of a model card
_ANYBODYS = "llama"  # the architecture of many families, which is no sign of Llama itself
_LARGEST = 2**20  # bytes of a file that are read


def families_in(name: str) -> frozenset[str]:
    """Return the families that a model's or a system's name tells: none, one, or of a distilled model two."""
    return frozenset(family for family, pattern in _PATTERNS.items() if pattern.search(name))


def families_of(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return the families of a model from its settings, as a run, a judge or a study's key has them.

    Args:
        settings: `model`, `served_model` and `weights_origin` are read. If these tell nothing, the files beside the
            weights are read, where they are on this machine: the model that a copy was made of, and its architecture.
    """
    told = [value.partition(" + ")[0] for name in _NAMES if isinstance(value := settings.get(name), str)]
    return _families(map(_last_part, told)) or _families(_made_of(settings))


def _families(names: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(families_in, names))


def _last_part(name: str) -> str:
    """Return a name; of a path what names the model, since folders above it can have any name."""
    path = PurePath(name)
    if not path.is_absolute():
        return name
    return next((part for part in path.parts if part.startswith("models--")), path.name)


def _made_of(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that the files beside a model's weights have for what it was made of."""
    folder = _folder(settings)
    if folder is None:
        return
    yield from _BASE.findall(_text(folder / "README.md"))
    try:
        config = parse_json(_text(folder / "config.json"))
    except JSONError:
        return
    if isinstance(config, dict):
        told = (config.get("_name_or_path"), config.get("model_type"))
        yield from (_last_part(name) for name in told if isinstance(name, str) and name != _ANYBODYS)


def _folder(settings: Mapping[str, Any]) -> Path | None:
    """Return the folder of a model's weights, if it can be told; it need not be there."""
    origin, revision = settings.get("weights_origin"), settings.get("weights_revision")
    if not isinstance(origin, str):
        return None
    origin = origin.partition(" + ")[0]
    if PurePath(origin).is_absolute():
        return Path(origin)
    if not is_hub_id(origin):
        return None
    from localemp.models.hub import find_snapshot

    found = find_snapshot(HubSource(id=origin, revision=revision if isinstance(revision, str) else None))
    return None if found is None else found.folder


def _text(path: Path) -> str:
    """Return the beginning of a file; empty where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
