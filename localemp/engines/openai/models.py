"""Reads a server's list of models. It is not reliable: proxies list wildcards, foreign entries, or nothing."""

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
        lengths: Context length in tokens by model name; None if not given (vLLM's server gives it).
        unreadable: Number of entries without a name.
        shut_down: By model name the date on which it is shut down, where one is announced (OpenAI's server gives it).
    """

    lengths: dict[str, int | None]
    unreadable: int = 0
    shut_down: dict[str, date] = field(default_factory=dict)

    def has(self, model: str) -> bool | None:
        """Return whether the server has a model; None if the list does not tell for sure."""
        # Ollama lists "llama3:latest" and accepts "llama3".
        if {model, f"{model}:latest"} & self.lengths.keys():
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
    lengths = {entry["id"]: _length(entry.get("max_model_len")) for entry in named}
    ends = {entry["id"]: end for entry in named if (end := _end(entry))}
    return Models(lengths, len(listed or ()) - len(named), ends)


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


def _length(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
