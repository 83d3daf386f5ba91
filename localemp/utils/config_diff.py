"""What differs between the settings that something was made with and those that are asked for now."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from localemp.utils.redaction import redact_settings

_LONGEST = 60


def compare_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = "in the run", there: str = "now"
) -> list[str]:
    """One line for each setting that differs: name, the old value and where it is, then the new one.

    Settings inside a setting have lines of their own: `sampling.temperature`. One secret is like another: what is kept
    knows none, and nobody is shown one.
    """
    return [
        f"{name}: {before} {where}, {after} {there}"
        for name, before, after in _differences(redact_settings(old), redact_settings(new))
    ]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            for inner, *texts in _differences(before, after):
                yield f"{name}.{inner}", texts[0], texts[1]
        elif before != after:
            one, other = (json.dumps(value, ensure_ascii=False) for value in (before, after))
            same = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)
            yield name, _short(one, same), _short(other, same)


def _short(text: str, same: int) -> str:
    """A text that may be long, from shortly before the place where it differs from another."""
    if len(text) <= _LONGEST:
        return text
    start = max(0, min(same - _LONGEST // 3, len(text) - _LONGEST))
    end = start + _LONGEST
    before = "..." if start > 0 else ""
    after = "..." if end < len(text) else ""
    return f"{before}{text[start:end]}{after}"
