"""How probable a run's model finds people's replies: a journal in the run's folder.

    perplexity/manifest.json     the model, its tokenizer and template; versions and machine of each session
    perplexity/logprobs.jsonl    a line for each dialogue: log probability and number of tokens of its reference

`pipeline/references.py` writes it, the metric PPL reads it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from localemp.errors import RunError
from localemp.runs.journal import MANIFEST, Journal, newest, read_lines, read_manifest
from localemp.utils.config_diff import compare_settings
from localemp.utils.validation import Lenient

FOLDER = "perplexity"
LOGPROBS = "logprobs.jsonl"


class ReferenceLogprob(Lenient):
    """The log probability of one dialogue's reference.

    Attributes:
        id: The id of the dialogue.
        logprob: Natural logarithm of the reference's probability, the sum over its tokens.
        tokens: Number of its tokens, without the end of the turn.
        prompt_sha256: Hash of the messages that it answers.
        reference_sha256: Hash of the reference.
    """

    id: str
    logprob: Annotated[float, Field(allow_inf_nan=False)]
    tokens: Annotated[int, Field(ge=1, lt=2**53)]
    prompt_sha256: str
    reference_sha256: str


class _Error(BaseModel):
    message: str


class _Failure(Lenient):
    id: str
    error: _Error


class ReferenceLogprobs(Journal):
    """A journal of log probabilities that is open for writing; ids are those of dialogues."""

    lines = LOGPROBS
    option = "run"

    @staticmethod
    def check_line(record: dict[str, Any]) -> None:
        """Validate a line."""
        (_Failure if "error" in record else ReferenceLogprob).model_validate(record)

    @classmethod
    def _check_settings(cls, folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        if difference := compare_settings(manifest["settings"], settings, "there"):
            shown = "\n".join(f"  {line}" for line in difference)
            raise RunError(
                f"{folder} has log probabilities that were computed in another way:\n{shown}",
                f"remove {folder}, and score again",
            )


def read_logprobs(run: Path) -> tuple[dict[str, Any], dict[str, ReferenceLogprob]]:
    """Return the manifest and the log probabilities, by the ids of dialogues, that a run's folder has.

    Both are empty if there are none.

    Raises:
        RunError: The journal is damaged.
    """
    folder = run / FOLDER
    if not (folder / MANIFEST).is_file():
        return {}, {}
    lines = newest(read_lines(folder / LOGPROBS, ReferenceLogprobs.check_line))
    found = {line["id"]: ReferenceLogprob.model_validate(line) for line in lines if "error" not in line}
    return read_manifest(folder), found


def prompt_sha256(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the hash of messages, as a run's lines have them."""
    return text_sha256(json.dumps([[message["role"], message["content"]] for message in messages]))


def text_sha256(text: str) -> str:
    """Return the hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
