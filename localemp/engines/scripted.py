"""An engine that answers from a file instead of a model, for tests and dry runs.

The file is JSON lines. The first matching entry answers; only `reply`, `choices` or `error` is required:

    {"match": "lost my job", "reply": "I am so sorry to hear that.", "seconds": 0.2}
    {"match": "exam", "where": "last", "reply": ["First answer.", "Second answer."]}
    {"match": "storm", "error": "engine", "times": 1}
    {"match": "Reply A", "choices": {"A": 0.6, "B": 0.2, "C": 0.1}}
    {"reply": "Tell me more."}

match    a substring of the messages; an entry without it matches everything
where    "prompt" (default) searches all messages, "last" only the last user message
reply    the text; uses of a list cycle through it; thinking is marked as models do it: "<think>Sad.</think>Oh no."
choices  the probability of each choice, where a request has choices; the likeliest is the text if there is no `reply`
ends     why the answer ends: "stop" by default, "length" for one that is truncated
seconds  how long the answer takes; 0 by default
error    "engine", "fatal" or "too-long": raised instead of a reply, with `reply` as its message
adapter  the name of an adapter: only requests with it match
times    how many times the entry answers; unlimited by default
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from localemp.dialogue import Message
from localemp.engines.adapted import AdaptableEngine
from localemp.engines.base import ON_TEXT, Completion
from localemp.engines.choices import normalised
from localemp.errors import DataError, EngineError, FatalEngineError, PromptTooLongError
from localemp.models.adapters import Adapter
from localemp.protocol.thinking import split_thinking
from localemp.sampling import Sampling
from localemp.utils.files import open_regular
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.validation import format_validation_error

_LARGEST_FILE = 64 * 2**20
_HINT = 'an entry looks like {"match": "lost my job", "reply": "I am so sorry to hear that."}'


class Entry(BaseModel):
    """One line of the script; see the module's docstring for the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    match: str | None = None
    where: Literal["prompt", "last"] = "prompt"
    adapter: str | None = None
    reply: str | list[str] | None = None
    choices: dict[str, Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]] | None = None
    ends: Literal["stop", "length"] = "stop"
    seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    error: Literal["engine", "fatal", "too-long"] | None = None
    times: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _answers_somehow(self) -> Self:
        if self.error is None and self.reply in (None, []) and not self.choices:
            raise ValueError("the entry has neither a reply nor an error")
        if self.choices and sum(self.choices.values()) > 1 + 1e-9:
            raise ValueError("the probabilities of the choices add up to more than 1")
        return self


class ScriptedEngine(AdaptableEngine):
    """Answers from the entries of a script. Tokens are whitespace-separated words.

    Attributes:
        calls: The messages of every call, in order.
    """

    name = "scripted"

    def __init__(
        self, entries: Sequence[Entry], source: str = "", sha256: str = "", adapters: Sequence[Adapter] = ()
    ) -> None:
        """Create an engine.

        Args:
            entries: The entries; the first that matches answers.
            source: Name of the file, for errors and the manifest.
            sha256: Hash of the file, for the manifest.
            adapters: Adapters that requests can have.
        """
        super().__init__(adapters)
        self.calls: list[list[Message]] = []
        self._entries, self._source, self._sha256 = tuple(entries), source or "the script", sha256
        self._uses = [0] * len(self._entries)

    @classmethod
    def from_file(cls, path: str | Path, adapters: Sequence[Adapter] = ()) -> Self:
        """Read a script.

        Raises:
            DataError: The file is missing or empty, or an entry is invalid; names the line.
        """
        path = Path(path)
        try:
            with open_regular(path) as file:
                raw = file.read(_LARGEST_FILE + 1)
            lines = raw.decode("utf-8-sig").split("\n")
        except OSError as error:
            raise DataError(path, f"cannot read the script: {error.strerror or error}", _HINT) from error
        except UnicodeDecodeError as error:
            raise DataError(path, "not valid UTF-8", _HINT, raw.count(b"\n", 0, error.start) + 1) from error
        if len(raw) > _LARGEST_FILE:
            raise DataError(path, f"the script has more than {_LARGEST_FILE // 2**20} MiB", _HINT)
        entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise DataError(path, "the script has no entries", _HINT)
        return cls(entries, path.name, hashlib.sha256(raw).hexdigest(), adapters)

    async def chat(self, messages: Sequence[Message], sampling: Sampling, adapter: Adapter | None = None) -> Completion:
        """Answer from the first matching entry that is not used up; see `Engine.chat`.

        Raises:
            EngineError: No entry matches, or the entry has an error.
        """
        begun = time.perf_counter()
        self.calls.append(list(messages))
        entry, use = self._take(messages, adapter)
        await asyncio.sleep(entry.seconds)
        text = entry.reply[use % len(entry.reply)] if isinstance(entry.reply, list) and entry.reply else entry.reply
        words = sum(len(message.content.split()) for message in messages)
        if entry.error == "too-long":
            raise PromptTooLongError(words, sampling.most_tokens, None)
        if entry.error is not None:
            kind = FatalEngineError if entry.error == "fatal" else EngineError
            raise kind(str(text or f"{self._source} has an error here"))
        if text is None and entry.choices:
            text = max(entry.choices, key=entry.choices.__getitem__)
        answer, thinking = split_thinking(str(text))
        if tell := ON_TEXT.get():
            for piece in re.findall(r"\s*\S+|\s+", answer):
                tell(piece)
        known = entry.choices or {}
        choices, mass = normalised({choice: known.get(choice, 0.0) for choice in sampling.choices})
        seconds = time.perf_counter() - begun
        return Completion(
            answer,
            entry.ends,
            words,
            len(str(text).split()),
            seconds=seconds,
            thinking=thinking,
            thinking_tokens=len(thinking.split()),
            choices=choices,
            choice_mass=None if choices is None else mass,
        )

    @property
    def gives_choices(self) -> bool:
        """Whether an entry has probabilities of choices."""
        return any(entry.choices for entry in self._entries)

    def describe(self) -> dict[str, Any]:
        """Return the script's name, hash and length, for the manifest."""
        return {"engine": self.name, "script": self._source, "sha256": self._sha256, "entries": len(self._entries)}

    def _take(self, messages: Sequence[Message], adapter: Adapter | None) -> tuple[Entry, int]:
        last = next((message.content for message in reversed(messages) if message.role == "user"), "")
        prompt = "\n".join(message.content for message in messages)
        for number, entry in enumerate(self._entries):
            use = self._uses[number]
            if entry.times is not None and use >= entry.times:
                continue
            if entry.adapter is not None and (adapter is None or adapter.name != entry.adapter):
                continue
            if entry.match is None or entry.match in (last if entry.where == "last" else prompt):
                self._uses[number] += 1
                return entry, use
        raise EngineError(
            f"no entry of {self._source} matches a prompt that ends with {last[-80:]!r}",
            'add an entry without "match", which matches everything: {"reply": "Tell me more."}',
        )


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        return Entry.model_validate(parse_json(line))
    except JSONError as error:
        raise DataError(path, str(error), _HINT, line=number) from error
    except ValidationError as error:
        raise DataError(path, format_validation_error(error), _HINT, line=number) from error
