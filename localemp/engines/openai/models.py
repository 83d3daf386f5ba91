"""What a server lists as its models. It is advice: proxies list names with `*`, others' entries, or nothing at all."""

from dataclasses import dataclass
from typing import Any

from localemp.protocol.errors import ServedError, UnreadableAnswerError
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line

_COMPLETE = 20  # a server of one's own lists a few models; of a longer list we do not know that it is complete


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a list that could be read.

    Attributes:
        lengths: Name -> context length in tokens, None where it is not told; vLLM's server tells it.
        odd: Entries without a name.
    """

    lengths: dict[str, int | None]
    odd: int = 0

    def has(self, model: str) -> bool | None:
        """Whether a model is there; None where the list does not say for sure."""
        # Ollama lists "llama3:latest" and takes "llama3".
        if {model, f"{model}:latest"} & self.lengths.keys():
            return True
        unsure = self.odd or not 0 < len(self.lengths) <= _COMPLETE or any("*" in name for name in self.lengths)
        return None if unsure else False

    def __str__(self) -> str:
        """All names in a line."""
        return one_line(", ".join(sorted(self.lengths)), 300)


def read_models(content: bytes) -> Models:
    """Read the body of /models.

    Raises:
        ServedError: There is an error inside.
        UnreadableAnswerError: It is no list of models.
    """
    try:
        value: Any = parse_json(content)
    except JSONError as error:
        raise UnreadableAnswerError(f"{error}: {one_line(content[:800].decode('utf-8', 'replace'))}") from error
    if isinstance(value, dict) and value.get("error"):
        raise ServedError.read(value["error"])
    # Some hosts send the bare list; Ollama's is null when it has none.
    listed = value.get("data", value) if isinstance(value, dict) else value
    if not isinstance(listed, list | None) or value is None:
        raise UnreadableAnswerError(f"it is no list of models: {one_line(str(value))}")
    named = [entry for entry in listed or () if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    lengths = {entry["id"]: _length(entry.get("max_model_len")) for entry in named}
    return Models(lengths, len(listed or ()) - len(named))


def _length(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
