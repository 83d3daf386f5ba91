"""`/v1/models`: what the wrapped app lists, with one more entry for each strategy."""

from collections.abc import Mapping, Sequence
from typing import Any

from localemp.serving.names import ModelNames
from localemp.utils.json_reader import JSONError, parse_json


def with_strategies(
    listed: bytes,
    names: ModelNames,
    adapters: Mapping[str, str],
    about: Mapping[str, str],
    sampling: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the list for clients. It holds every name of ours, whatever the app's own list is like.

    Args:
        listed: The app's response.
        names: The names of the model, its adapters and strategies.
        adapters: The SHA-256 of each adapter. Entries with an adapter have the keys `adapter` and `adapter_sha256`.
        about: One line on each strategy, the key `description` of its entries.
        sampling: The sampling parameters of the strategies, the key `sampling` of the model's and their entries.
    """
    found = _decode(listed)
    data = found.get("data")
    entries = data if isinstance(data, list) else []
    models = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    model = find_model(models, names.model)
    if model is None:
        model = {"id": names.model, "object": "model", "created": 0, "owned_by": "localemp"}
        models = [model, *models]
    models = [entry | {"sampling": dict(sampling)} if entry["id"] == names.model else entry for entry in models]
    model = model | {"sampling": dict(sampling)}
    ours = []
    for adapter in ("", *names.adapters):
        name, told = names.of(adapter), {}
        if adapter:
            told = {"adapter": adapter, "adapter_sha256": adapters[adapter]}
            # vLLM lists adapters, too, without the length of the context.
            entry = find_model(models, name) or model | {"id": name, "parent": names.model}
            models = [other for other in models if other is not entry]
            models.append(model | {key: value for key, value in entry.items() if value is not None} | told)
        own = {"owned_by": "localemp", "root": name, "parent": name, **told}
        ours += [
            model | own | {"id": names.of(adapter, strategy), "description": about[strategy]}
            for strategy in names.strategies
        ]
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
