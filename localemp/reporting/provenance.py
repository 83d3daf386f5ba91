"""The provenance of runs: a table of the differences between them, and a list of what all share."""

from collections.abc import Mapping, Sequence
from typing import Any

from localemp.reporting.systems import System
from localemp.reporting.tables import NOT_GIVEN, Cell, Row, Table
from localemp.utils.formatting import plain

# Not worth a row of its own: what a nested value holds is shown under its own name.
_NESTED = ("sampling", "versions", "machine", "engine_args", "chat_template_kwargs")
_SHOWN = 12  # of a hash; the title has all


def provenance_table(systems: Sequence[System]) -> tuple[Table | None, tuple[tuple[str, str], ...]]:
    """Return a table of the differences, runs as columns, and names and values that all runs share."""
    runs = [system for system in systems if system.manifest is not None]
    facts = [_folder(system) | facts_of(system.manifest or {}) | _verified(system) for system in runs]
    names = list(dict.fromkeys(name for each in facts for name in each))
    asked = {name for system in runs for name in _flat((system.manifest or {})["settings"])}
    names.sort(key=lambda name: (name != "run", name == "command", name not in asked))
    same = [name for name in names if len({each.get(name) for each in facts}) == 1]
    rows = tuple(
        Row(name, tuple(_cell(each.get(name)) for each in facts)) for name in names if name not in same and facts
    )
    columns = tuple(system.name for system in runs)
    table = Table("made", "made", "What differs between the runs", "Setting", columns, rows) if rows else None
    return table, tuple((name, facts[0][name]) for name in same)


def _folder(system: System) -> dict[str, str]:
    return {"run": system.folder} if system.folder not in ("", system.name) else {}


def _verified(system: System) -> dict[str, str]:
    return {"verified": system.verified.removeprefix("verified ")} if system.verified else {}


def facts_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return a manifest as names and texts; values that differ between sessions are joined."""
    facts = _flat(manifest["settings"])
    sessions = manifest["sessions"]
    told: dict[str, list[str]] = {}
    for session in sessions:
        for name, value in _flat(session).items():
            told.setdefault(name, []).append(_time(value) if name == "started" else value)
    for name, values in told.items():
        text = "; then ".join(dict.fromkeys(values))
        if facts.get(name) not in (None, text):
            name = f"{name} (session)"
        facts[name] = text
    if not sessions:
        facts["started"] = _time(str(manifest.get("created", "")))
    return facts


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if name in _NESTED and isinstance(value, Mapping):
            flat |= _flat(value, name)
        elif value not in (None, [], {}, ""):
            flat[f"{name} ({above})" if above in ("sampling", "engine_args") else name] = plain(value)
    return flat


def _time(text: str) -> str:
    return text.replace("T", " ").replace("+00:00", " UTC")


def _cell(text: str | None) -> Cell:
    if text is None:
        return Cell(NOT_GIVEN)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return Cell(text[:_SHOWN] + "…" if is_hash else text, about=text if is_hash else "")
