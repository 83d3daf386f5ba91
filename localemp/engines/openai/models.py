"""Reads a server's list of models. It is not reliable: proxies list wildcards, foreign entries, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from localemp.protocol.errors import MalformedResponseError, ServerError
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line

_COMPLETE = 20  # entries; a longer list may be incomplete


@dataclass(frozen=True, slots=True)
class Models:
    """The readable entries of a list of models.

    Attributes:
        lengths: Context length in tokens by model name; None if not given.
        unreadable: Number of entries without a name.
        owners: What the list calls the owner of each model, where it does: for some servers it is their name.
        shut_down: By model name the date on which it is shut down, where one is announced (OpenAI's server gives it).
    """

    lengths: dict[str, int | None]
    unreadable: int = 0
    owners: Mapping[str, str] = field(default_factory=dict)
    shut_down: Mapping[str, date] = field(default_factory=dict)

    def listed_as(self, model: str) -> str:
        """Return the name under which a model is listed, if it is."""
        # Ollama lists "llama3:latest" and accepts "llama3"; Gemini lists "models/gemini" and accepts "gemini".
        names = (model, f"{model}:latest", f"models/{model}")
        return next((name for name in names if name in self.lengths), model)

    def has(self, model: str) -> bool | None:
        """Return whether the server has a model; None if the list does not tell for sure."""
        if self.listed_as(model) in self.lengths:
            return True
        unsure = self.unreadable or not 0 < len(self.lengths) <= _COMPLETE or any("*" in name for name in self.lengths)
        return None if unsure else False

    def __str__(self) -> str:
        """Return all names in one line."""
        return one_line(", ".join(sorted(self.lengths)), 300)


def read_models(content: bytes) -> Models:
    """Parse the body of a response to /models.

    Raises:
        ServerError: The body holds an error.
        MalformedResponseError: The body is not a list of models.
    """
    value = _parse(content)
    # Some hosts send a bare list; Ollama sends null for an empty one.
    listed = value.get("data", value) if isinstance(value, dict) else value
    if not isinstance(listed, list | None) or value is None:
        raise MalformedResponseError(f"not a list of models: {one_line(str(value))}")
    named = [entry for entry in listed or () if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    lengths = {entry["id"]: _context_length(entry) for entry in named}
    owners = {entry["id"]: owner for entry in named if isinstance(owner := entry.get("owned_by"), str)}
    ends = {entry["id"]: end for entry in named if (end := _end(entry))}
    return Models(lengths, len(listed or ()) - len(named), owners, ends)


def read_model(content: bytes) -> date | None:
    """Parse the body of a response to /models/NAME; return the date on which the model is shut down, if announced.

    Raises:
        ServerError: The body holds an error.
        MalformedResponseError: The body is not a model.
    """
    value = _parse(content)
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise MalformedResponseError(f"not a model: {one_line(str(value), 300)}")
    return _end(value)


def _parse(content: bytes) -> Any:
    try:
        value: Any = parse_json(content)
    except JSONError as error:
        raise MalformedResponseError(f"{error}: {one_line(content[:800].decode('utf-8', 'replace'))}") from error
    if isinstance(value, dict) and value.get("error"):
        raise ServerError.parse(value["error"])
    return value


def _end(entry: dict[str, Any]) -> date | None:
    value = entry.get("shutdown_date")
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _context_length(entry: Mapping[str, Any]) -> int | None:
    """Return a model's context length, which vLLM and SGLang, OpenRouter, Groq and llama.cpp each name differently."""
    meta = entry.get("meta")
    values = [entry.get(name) for name in ("max_model_len", "context_length", "context_window")]
    values += [meta.get("n_ctx")] if isinstance(meta, dict) else []
    return next((length for value in values if (length := read_length(value))), None)


def read_length(value: Any) -> int | None:
    """Return a length in tokens; None if the value is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None
