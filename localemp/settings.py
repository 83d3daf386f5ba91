"""What differs between the settings that something was made with and those that are asked for now."""

import json
from collections.abc import Mapping
from typing import Any


def compare_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = "in the run", there: str = "now"
) -> list[str]:
    """One line for each setting that differs: name, the old value and where it is, then the new one."""
    return [
        f"{name}: {_short(old.get(name))} {where}, {_short(new.get(name))} {there}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
