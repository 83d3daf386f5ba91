"""Tokens of prompts for models that answer on a server: by tiktoken, if its file is here, else by characters."""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from localemp.dialogue import Message

# OpenAI's documentation: "one token generally corresponds to ~4 characters of text for common English text".
CHARACTERS = 4
# Of OpenAI's chat format: marks and role of a message, and the beginning of the answer.
_MESSAGE, _ANSWER = 3, 3
_ENCODINGS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


class HostedTokenizer:
    """Counts tokens as far as that is possible without the server.

    Args:
        model: The model's name on the server.

    Attributes:
        how: How tokens are counted, in a few words.
    """

    def __init__(self, model: str) -> None:
        self._encoding = _encoding(model)
        self.how = f"by characters, {CHARACTERS} a token"
        if self._encoding is not None:
            self.how = f"by tiktoken's {self._encoding.name}"

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self._tokens(text))

    def encode(self, messages: Sequence[Message]) -> Sequence[Hashable]:
        """Return the tokens of a prompt, or pieces of it that are about as many."""
        tokens: list[Hashable] = []
        for message in messages:
            tokens += [message.role] * _MESSAGE
            tokens += self._tokens(message.content)
        return [*tokens, *["assistant"] * _ANSWER]

    def _tokens(self, text: str) -> Sequence[Hashable]:
        if self._encoding is not None:
            return list(self._encoding.encode_ordinary(text))
        return [text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS)]


def _encoding(model: str) -> Any:
    """Return tiktoken's encoding of a model; None if it is unknown, or would have to be downloaded."""
    if importlib.util.find_spec("tiktoken") is None:
        return None
    import tiktoken

    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        return None
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    folder = Path(tempfile.gettempdir(), "data-gym-cache") if chosen is None else Path(chosen)
    kept = folder / hashlib.sha1(_ENCODINGS.format(name).encode(), usedforsecurity=False).hexdigest()
    if chosen == "" or not kept.is_file():
        return None
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError):  # the file is damaged, and no other can be fetched
        return None
