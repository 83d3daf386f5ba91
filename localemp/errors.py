"""Everything that localemp raises on purpose.

    LocalempError
    ├── UnknownNameError        a model, strategy, split or option that does not exist; lists those that do
    ├── OptionError             a value that an option cannot take, or options that exclude each other
    ├── DataError               a data file that cannot be read; says file and line
    ├── PromptError             a prompt file that breaks its rules; says which key
    ├── ProfileError            a model profile that breaks its rules; says which key
    ├── WeightsError            weights that cannot be found, fetched or trusted
    │   └── GatedModelError     the hub wants a licence accepted and a token
    ├── RunError                a run folder that cannot be written, read or continued
    ├── JudgeError              a judge whose answers cannot be read
    └── EngineError             one reply that an engine could not give
        ├── PromptTooLongError  the prompt does not fit the context; strategies drop exemplars and try again
        ├── StillThinkingError  the tokens were used up before the model began to reply
        └── FatalEngineError    no further reply can be had (a wrong key, no server, no memory, no quota)

The library raises; only `localemp.cli` prints.
"""

from collections.abc import Iterable


class LocalempError(Exception):
    """Base of all errors that localemp raises on purpose.

    Attributes:
        message: What was wrong, and where, in one line.
        hint: What to do next; empty where the message says it all.
        exit_code: What the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownNameError(LocalempError):
    """A name that is not registered.

    Attributes:
        kind: What was looked for ("model", "strategy", ...).
        name: The name that was given.
        known: The names that exist.
    """

    exit_code = 2

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        listed = f"known: {', '.join(self.known)}" if self.known else "there is none yet"
        super().__init__(f"unknown {kind} {name!r}", f"{listed}. {hint}" if hint else listed)


class OptionError(LocalempError):
    """A value that an option cannot take, or options that exclude each other."""

    exit_code = 2


class DataError(LocalempError):
    """A data file that cannot be read.

    Attributes:
        path: The file.
        line: The 1-based line, or None where the whole file is meant.
    """

    exit_code = 2

    def __init__(self, path: object, message: str, hint: str = "", line: int | None = None) -> None:
        self.path, self.line = path, line
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {message}", hint)


class PromptError(LocalempError):
    """A prompt file that breaks its rules."""

    exit_code = 2


class ProfileError(LocalempError):
    """A model profile that breaks its rules."""

    exit_code = 2


class WeightsError(LocalempError):
    """Weights that cannot be found, fetched or trusted."""


class GatedModelError(WeightsError):
    """The hub wants a licence accepted and a token before it gives the weights."""


class RunError(LocalempError):
    """A run folder that cannot be written, read or continued."""


class JudgeError(LocalempError):
    """A judge too many of whose answers cannot be read."""


class EngineError(LocalempError):
    """One reply that an engine could not give; other replies may still succeed."""


class PromptTooLongError(EngineError):
    """The prompt and the room for a reply exceed the context.

    Attributes:
        prompt_tokens: Length of the prompt, or None where only the server knows.
        reply_tokens: Room asked for the reply.
        context_length: What the engine can hold, or None where only the server knows.
    """

    def __init__(self, prompt_tokens: int | None, reply_tokens: int, context_length: int | None) -> None:
        self.prompt_tokens, self.reply_tokens, self.context_length = prompt_tokens, reply_tokens, context_length
        prompt = "the prompt" if prompt_tokens is None else f"a prompt of {prompt_tokens} tokens"
        context = "the model's context" if context_length is None else f"a context of {context_length} tokens"
        super().__init__(
            f"{prompt} and a reply of up to {reply_tokens} tokens do not fit {context}",
            "use fewer --shots, a smaller --max-tokens, or a model with a longer context",
        )


class StillThinkingError(EngineError):
    """The tokens were used up before the model had thought to the end."""

    def __init__(self) -> None:
        super().__init__(
            "the model was still thinking when its tokens were used up", "give it more room with a larger --max-tokens"
        )


class FatalEngineError(EngineError):
    """No further reply can be had from this engine."""
