"""`/v1/models`: what the wrapped app lists, with one entry more for each strategy."""

from collections.abc import Sequence
from typing import Any

from localemp.utils.json_reader import JSONError, parse_json


def with_strategies(listed: bytes, model: str, strategies: Sequence[str]) -> dict[str, Any]:
    """The list for clients; whatever the app's own is like, the model and its strategies are in it.

    Args:
        listed: The app's answer.
        model: The name of the model that is served.
        strategies: Names of those that are offered.
    """
    found = _read(listed)
    data = found.get("data")
    entries = data if isinstance(data, list) else []
    models = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    bare = next((entry for entry in models if entry["id"] == model), None)
    if bare is None:
        bare = {"id": model, "object": "model", "created": 0, "owned_by": "localemp"}
        models = [bare, *models]
    own = {"owned_by": "localemp", "root": model, "parent": model}
    ours = [bare | own | {"id": f"{model}:{strategy}"} for strategy in strategies]
    return {"object": "list"} | found | {"data": [*models, *ours]}


def entry_of(listing: dict[str, Any], name: str) -> dict[str, Any] | None:
    """What a list says of one model; None where it is not in it."""
    return next((entry for entry in listing["data"] if entry["id"] == name), None)


def _read(listed: bytes) -> dict[str, Any]:
    try:
        found = parse_json(listed)
    except JSONError:
        return {}
    return found if isinstance(found, dict) else {}
