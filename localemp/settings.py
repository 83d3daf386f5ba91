"""What differs between the settings that something was made with and those that are asked for now."""

import json
from collections.abc import Mapping
from typing import Any

_LONGEST = 60


def compare_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = "in the run", there: str = "now"
) -> list[str]:
    """One line for each setting that differs: name, the old value and where it is, then the new one.

    Settings inside a setting have lines of their own: `sampling.temperature`.
    """
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{name}.{line}" for line in compare_settings(before, after, where, there)]
        elif before != after:
            texts = [json.dumps(value, ensure_ascii=False) for value in (before, after)]
            same = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
            lines.append(f"{name}: {_short(texts[0], same)} {where}, {_short(texts[1], same)} {there}")
    return lines


def _short(text: str, same: int) -> str:
    """A text that may be long, from shortly before the place where it differs from another."""
    if len(text) <= _LONGEST:
        return text
    start = max(0, min(same - _LONGEST // 3, len(text) - _LONGEST))
    end = start + _LONGEST
    return f"{'...' * (start > 0)}{text[start:end]}{'...' * (end < len(text))}"
