"""Asks Ollama how long the context is in which it answers: it cuts what is longer, and does not say so in the answer.

The length is the server's choice (OLLAMA_CONTEXT_LENGTH, else by the memory of the GPU), often far below what the model
can do, and no field of a request with the OpenAI API changes it.
"""

import logging
from typing import Any

from localemp.engines.openai.connection import Connection
from localemp.engines.openai.models import read_length
from localemp.protocol.completions import decode
from localemp.protocol.errors import ResponseError

_log = logging.getLogger(__name__)


async def loaded_context(connection: Connection, base_url: str, model: str) -> int | None:
    """Return the context length with which Ollama runs a model, after it has loaded it; None if it does not tell.

    Args:
        connection: A connection to the server.
        base_url: The server's URL, with "/v1".
        model: Name of the model on the server.
    """
    root = base_url.removesuffix("/v1")
    try:
        await connection.post(f"{root}/api/generate", {"model": model, "stream": False}, decode)
        found = _length(await connection.get(f"{root}/api/ps", decode), model)
    except ResponseError as error:
        _log.debug("%s: %s", root, error.message)
        found = None
    if found is None:
        _log.warning("Ollama does not say how long its context is; it cuts longer prompts without a word")
    return found


def _length(running: Any, model: str) -> int | None:
    models = running.get("models") if isinstance(running, dict) else None
    for each in models if isinstance(models, list) else ():
        if isinstance(each, dict) and {each.get("name"), each.get("model")} & {model, f"{model}:latest"}:
            return read_length(each.get("context_length"))
    return None
