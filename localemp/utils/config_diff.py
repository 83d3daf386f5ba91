"""Differences between the settings that something was made with and the current ones."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from localemp.utils.redaction import redact_settings

_LONGEST = 60
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN_OF_HASH = 12
# SHA-256 of prompt files of version 0.1, and of the same prompts since some of their keys have new names.
_SAME_AS = {
    "fc190d39ab2f0c16f78c3f7c4fd28bc44ff4a3cafda7582ce43844c702657f5f": (
        "385de8cb642df5700b027cb87f62213bb2ce581be86a3f6a268e7a3f0b4ad26b"
    ),
    "9063f528e825407469270ac12f2445428bb19a1275266d8a11cbd96e7d64bb3b": (
        "4d7c46fe7db6d6baa7e5e1595abdb9ff4d491ade95d26b78b4fffed2d10439be"
    ),
    # The judge's: a comment names another module.
    "74b43a6f4f866ab99db9a13d8ff843f0c7c3e594e48542c7186d38e76240b1e6": (
        "d1aec321f78cc1048388793c133de88830e92dab6d91b522e31d476ef8c5070b"
    ),
}
# Flows (`flow_sha256`) that send what the code sent before strategies were files; runs of then have no hash of them.
_SAME_AS_BEFORE_FLOWS = frozenset(
    [
        "a2d3edf97720647545f86f43b8e2ecd44b77b16b377dada8be88e4f39032ed2c",  # zero-shot
        "d524f526888cb4b5918af157243d36eb54e18f1f27dbae39a141b3356ddb916c",  # two-stage
        "ef94328de14c69a1e275afe77026e27358a2b0ec715dc80158acd6ba06258ac8",  # two-stage, the emotion given
        "ff8028c042485f5f89117b5e7fe037836505b3986e8ea2260070faa0d8e9d385",  # two-stage, the situation given
        "e849cbf12d09b180fe1539de52046ded93df3672831c003af5712d2a3e08be64",  # two-stage, both given
    ]
)
# Models by an earlier name: with the same weights, a run goes on under the new one.
_RENAMED_MODELS = {"smollm2": "smollm2-plain"}
_FORMERLY = {now: before for before, now in _SAME_AS.items()}


def compare_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = "in the run", there: str = "now"
) -> list[str]:
    """Return one line for each setting that differs: name, old value and its place, new value and its place.

    Nested settings have their own lines: `sampling.temperature`. Secrets are masked, so they never differ.
    """
    old, new = dict(redact_settings(old)), redact_settings(new)
    if "flow_sha256" not in old or "flow_sha256" not in new:
        old, new = without_former_code(old), without_former_code(new)
    weights, name = old.get("weights_sha256"), _present_name(old)
    if weights is not None and weights == new.get("weights_sha256") and name is not None and new.get("model") == name:
        old["model"] = name
    return [f"{name}: {before} {where}, {after} {there}" for name, before, after in _differences(old, new)]


def renamed_model(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the present name of the old settings' model if its former one now means that model with an adapter.

    Empty if that is not so.
    """
    before, now = old.get("weights_origin"), new.get("weights_origin")
    if old.get("model") != new.get("model") or not isinstance(before, str) or not isinstance(now, str):
        return ""
    return _present_name(old) or "" if now.startswith(f"{before} + ") else ""


def _present_name(settings: Mapping[str, Any]) -> str | None:
    name = settings.get("model")
    return _RENAMED_MODELS.get(name) if isinstance(name, str) else None


def former_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as version 0.1 recorded them: the same prompts have the hashes of their earlier files."""
    return {name: _FORMERLY.get(value, value) if isinstance(value, str) else value for name, value in settings.items()}


def without_former_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the hash of a flow that was code once: runs of that time have none."""
    same = settings.get("flow_sha256") in _SAME_AS_BEFORE_FLOWS
    return {name: value for name, value in settings.items() if name != "flow_sha256" or not same}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            for inner, *texts in _differences(before, after):
                yield f"{name}.{inner}", texts[0], texts[1]
        elif _current(before) != _current(after):
            one, other = _shown(before), _shown(after)
            same = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)
            yield name, _short(one, same), _short(other, same)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f"{value[:_SHOWN_OF_HASH]}…"
    return json.dumps(value, ensure_ascii=False)


def _current(value: Any) -> Any:
    return _SAME_AS.get(value, value) if isinstance(value, str) else value


def _short(text: str, same: int) -> str:
    """Shorten a long text to the part around the first difference."""
    if len(text) <= _LONGEST:
        return text
    start = max(0, min(same - _LONGEST // 3, len(text) - _LONGEST))
    end = start + _LONGEST
    before = "..." if start > 0 else ""
    after = "..." if end < len(text) else ""
    return f"{before}{text[start:end]}{after}"
