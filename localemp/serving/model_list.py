"""`/v1/models`: what the wrapped app lists, with one more entry for each strategy."""

from collections.abc import Sequence
from typing import Any

from localemp.utils.json_reader import JSONError, parse_json


def with_strategies(listed: bytes, model: str, strategies: Sequence[str]) -> dict[str, Any]:
    """Return the list for clients. It holds the model and its strategies, whatever the app's own list is like.

    Args:
        listed: The app's response.
        model: The name of the served model.
        strategies: The names of the offered strategies.
    """
    found = _decode(listed)
    data = found.get("data")
    entries = data if isinstance(data, list) else []
    models = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    bare = find_model(models, model)
    if bare is None:
        bare = {"id": model, "object": "model", "created": 0, "owned_by": "localemp"}
        models = [bare, *models]
    own = {"owned_by": "localemp", "root": model, "parent": model}
    ours = [bare | own | {"id": f"{model}:{strategy}"} for strategy in strategies]
    return {"object": "list"} | found | {"data": [*models, *ours]}


def find_model(models: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Return a model's entry in a list; None if it has none."""
    return next((entry for entry in models if entry["id"] == name), None)


def _decode(listed: bytes) -> dict[str, Any]:
    try:
        found = parse_json(listed)
    except JSONError:
        return {}
    return found if isinstance(found, dict) else {}
