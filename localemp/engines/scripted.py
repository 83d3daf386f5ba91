"""Answers from a file instead of a model, for tests and dry runs.

The file is JSON lines. The first entry that matches answers; nothing but `reply` or `error` is required:

    {"match": "lost my job", "reply": "I am so sorry to hear that.", "seconds": 0.2}
    {"match": "exam", "where": "last", "reply": ["First answer.", "Second answer."]}
    {"match": "storm", "error": "engine", "times": 1}
    {"reply": "Tell me more."}

match    a part of the messages' text; an entry without it answers everything
where    "prompt" (default) looks in all messages, "last" in the last user message only
reply    the text; of a list, each use takes the next, and after the last the first again; a thought is marked as
         models mark it: "<think>Sad.</think>Oh no."
seconds  how long the answer takes; 0 by default
error    "engine", "fatal" or "too-long": raised in place of a reply; `reply` is then its message
times    how often the entry answers before it is used up; always by default
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.errors import DataError, EngineError, FatalEngineError, PromptTooLongError
from localemp.protocol.thinking import split_thinking
from localemp.sampling import Sampling
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.validation import format_validation_error

_HINT = 'an entry looks like {"match": "lost my job", "reply": "I am so sorry to hear that."}'


class Entry(BaseModel):
    """One line of the script; the module's docstring says what each field does."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    match: str | None = None
    where: Literal["prompt", "last"] = "prompt"
    reply: str | list[str] | None = None
    seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    error: Literal["engine", "fatal", "too-long"] | None = None
    times: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _answers_somehow(self) -> Self:
        if self.error is None and self.reply in (None, []):
            raise ValueError("it has neither a reply nor an error")
        return self


class ScriptedEngine(Engine):
    """Answers from entries; tokens are words between white space.

    Attributes:
        calls: The messages of every call, in the order of the calls.
    """

    name = "scripted"

    def __init__(self, entries: Sequence[Entry], source: str = "", sha256: str = "") -> None:
        """Keep the entries.

        Args:
            entries: The first that matches answers.
            source: The file's name, for errors and the manifest.
            sha256: The file's hash, for the manifest.
        """
        self.calls: list[list[Message]] = []
        self._entries, self._source, self._sha256 = tuple(entries), source or "the script", sha256
        self._uses = [0] * len(self._entries)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a script.

        Raises:
            DataError: No such file, an entry that breaks the rules (with its line), or no entry at all.
        """
        path = Path(path)
        try:
            raw = path.read_bytes()
            lines = raw.decode("utf-8-sig").split("\n")
        except OSError as error:
            raise DataError(path, f"cannot be read as a script: {error.strerror or error}", _HINT) from error
        except UnicodeDecodeError as error:
            raise DataError(path, "not UTF-8 text", _HINT, raw.count(b"\n", 0, error.start) + 1) from error
        entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise DataError(path, "the script has no entries", _HINT)
        return cls(entries, path.name, hashlib.sha256(raw).hexdigest())

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer from the first entry that matches and is not used up; see `Engine.chat`.

        Raises:
            EngineError: No entry matches, or the entry says so.
        """
        begun = time.perf_counter()
        self.calls.append(list(messages))
        entry, use = self._take(messages)
        await asyncio.sleep(entry.seconds)
        text = entry.reply[use % len(entry.reply)] if isinstance(entry.reply, list) and entry.reply else entry.reply
        words = sum(len(message.content.split()) for message in messages)
        if entry.error == "too-long":
            raise PromptTooLongError(words, sampling.max_tokens, None)
        if entry.error is not None:
            kind = FatalEngineError if entry.error == "fatal" else EngineError
            raise kind(str(text or f"{self._source} says to fail here"))
        said, thinking = split_thinking(str(text))
        seconds = time.perf_counter() - begun
        return Completion(said, "stop", words, len(str(text).split()), seconds=seconds, thinking=thinking)

    def describe(self) -> dict[str, Any]:
        """Which script answers, for the manifest."""
        return {"engine": self.name, "script": self._source, "sha256": self._sha256, "entries": len(self._entries)}

    def _take(self, messages: Sequence[Message]) -> tuple[Entry, int]:
        last = next((message.content for message in reversed(messages) if message.role == "user"), "")
        prompt = "\n".join(message.content for message in messages)
        for number, entry in enumerate(self._entries):
            use = self._uses[number]
            if entry.times is not None and use >= entry.times:
                continue
            if entry.match is None or entry.match in (last if entry.where == "last" else prompt):
                self._uses[number] += 1
                return entry, use
        raise EngineError(
            f"{self._source} has no entry for a prompt that ends with {last[-80:]!r}",
            'add a line without "match", which answers everything: {"reply": "Tell me more."}',
        )


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        return Entry.model_validate(parse_json(line))
    except JSONError as error:
        raise DataError(path, str(error), _HINT, line=number) from error
    except ValidationError as error:
        raise DataError(path, format_validation_error(error), _HINT, line=number) from error
