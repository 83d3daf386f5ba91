"""What differs between the settings that something was made with and those that are asked for now."""

import json
from collections.abc import Mapping
from typing import Any


def compare_settings(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "in the run") -> list[str]:
    """One line for each setting that differs: name, then the old value and the one asked for now."""
    return [
        f"{name}: {_short(old.get(name))} {where}, {_short(new.get(name))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
