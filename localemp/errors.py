"""The exceptions that localemp raises.

    LocalempError
    ├── UnknownNameError        a model, strategy, split or option does not exist; lists those that do
    ├── OptionError             the value of an option is invalid, or options exclude each other
    ├── DataError               a data file cannot be read; gives file and line
    ├── PromptError             a prompt file is invalid; names the key
    ├── ProfileError            a model profile is invalid; names the key
    ├── PlanError               an experiment's plan is invalid; names row and key
    ├── WeightsError            weights cannot be found, fetched or verified
    │   └── GatedModelError     the hub requires an accepted licence and a token
    ├── RunError                a run folder cannot be written, read or resumed
    ├── MissingPackageError     an optional package is not installed; the hint installs it
    ├── JudgeError              a judge's answers cannot be parsed
    └── EngineError             a request to an engine failed
        ├── PromptTooLongError  the prompt does not fit the context; strategies drop exemplars and retry
        ├── RefusalError        the model refused, or a content filter withheld its answer or blocked the prompt
        ├── DryRunError         a strategy in Python needs a model's answer to say what it asks next
        ├── StillThinkingError  the token limit, or the end of the model's turn, came before its reply
        └── FatalEngineError    no further request can succeed (wrong key, no server, no memory, no quota)
            └── BudgetError     the budget is too small for any further request

The library raises them; only `localemp.cli` prints.
"""

import difflib
from collections.abc import Iterable
from decimal import Decimal

_LONGEST_LIST = 320  # characters: four lines of a terminal
_BESIDE = 240  # beside the name that was probably meant
_CLOSEST = 5


class LocalempError(Exception):
    """Base class of all exceptions that localemp raises.

    Attributes:
        message: The problem and its place, in one line.
        hint: The next step; empty if the message is enough.
        others: Further problems of the same file, each with its own hint.
        exit_code: Exit code of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", others: "Iterable[LocalempError]" = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.others = tuple(others)

    @property
    def with_hint(self) -> str:
        """The message and the hint in one line, for logs and for responses of a server."""
        told = [self.message, *([self.hint] if self.hint else []), *(["and further problems"] if self.others else [])]
        return "; ".join(told)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that an unknown one is probably meant to be, in whatever case; None if none is near."""
    return next(iter(_near(name, known, 1)), None)


def _near(name: str, known: Iterable[str], most: int, cutoff: float = 0.65) -> list[str]:
    """Return the known names that are spelt most like a name, the nearest first."""
    spelt = {each.casefold(): each for each in known}
    return [spelt[near] for near in difflib.get_close_matches(name[:100].casefold(), spelt, most, cutoff)]


def suggestion(name: str, known: Iterable[str], all_in: str = "") -> str:
    """Return the hint for an unknown name: the known one that is probably meant, and those that exist.

    A long list is not read, and buries the one name that was meant: of many names only the closest are told.

    Args:
        name: The unknown name.
        known: The names that exist.
        all_in: What lists all of them, such as a command.
    """
    names = list(known)
    near = _near(name, names, _CLOSEST)
    if not names:
        return "none exists yet"
    if len(whole := ", ".join(names)) <= (_BESIDE if near else _LONGEST_LIST):
        listed = f"known: {whole}"
    else:
        others = near[1:] if near else _near(name, names, _CLOSEST, cutoff=0)
        listed = f"{all_in} lists all {len(names)}" if all_in else f"{len(names)} are known"
        listed = f"close to it: {', '.join(others)}; {listed}" if others else listed
    return f"did you mean {near[0]!r}? {listed}" if near else listed


class UnknownNameError(LocalempError):
    """A name is not registered.

    Attributes:
        kind: Kind of thing that was looked up ("model", "strategy", ...).
        name: The unknown name.
        known: The names that exist.

    Args:
        hint: What else to do.
        why: Why the name is missing, if that is known.
        all_in: What lists all known names, such as a command, for a list that is too long to be shown.
    """

    exit_code = 2

    def __init__(
        self, kind: str, name: str, known: Iterable[str], hint: str = "", why: str = "", all_in: str = ""
    ) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        told = suggestion(name, self.known, all_in)
        super().__init__(f"unknown {kind} {name!r}{why and ': '}{why}", f"{told}. {hint}" if hint else told)


class MissingPackageError(LocalempError):
    """An optional package is not installed; the hint is the command that installs it."""


class OptionError(LocalempError):
    """The value of an option is invalid, or options exclude each other."""

    exit_code = 2


class DataError(LocalempError):
    """A data file cannot be read.

    Attributes:
        path: The file.
        line: Line number, from 1; None for the whole file.
    """

    exit_code = 2

    def __init__(self, path: object, message: str, hint: str = "", line: int | None = None) -> None:
        self.path, self.line = path, line
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {message}", hint)


class PromptError(LocalempError):
    """A prompt file is invalid."""

    exit_code = 2


class ProfileError(LocalempError):
    """A model profile is invalid."""

    exit_code = 2


class PlanError(LocalempError):
    """An experiment's plan is invalid."""

    exit_code = 2


class WeightsError(LocalempError):
    """Weights cannot be found, fetched or verified."""


class GatedModelError(WeightsError):
    """The hub requires an accepted licence and a token for these weights."""


class RunError(LocalempError):
    """A run folder cannot be written, read or resumed."""


class JudgeError(LocalempError):
    """Too many of a judge's answers cannot be parsed."""


class EngineError(LocalempError):
    """A request to an engine failed; other requests may still succeed."""


class PromptTooLongError(EngineError):
    """Prompt and reply exceed the context.

    Attributes:
        prompt_tokens: Length of the prompt; None if only the server knows it.
        reply_tokens: Requested length of the reply.
        context_length: Length of the context; None if only the server knows it.
    """

    def __init__(self, prompt_tokens: int | None, reply_tokens: int, context_length: int | None) -> None:
        self.prompt_tokens, self.reply_tokens, self.context_length = prompt_tokens, reply_tokens, context_length
        prompt = "the prompt" if prompt_tokens is None else f"a prompt of {prompt_tokens} tokens"
        context = "the model's context" if context_length is None else f"a context of {context_length} tokens"
        super().__init__(
            f"{prompt} and a reply of up to {reply_tokens} tokens do not fit {context}",
            "use fewer --shots, a smaller --max-tokens, or a model with a longer context",
        )


class RefusalError(EngineError):
    """The model refused to answer, or a content filter withheld its answer or blocked the prompt."""


class DryRunError(EngineError):
    """A strategy in Python cannot go on from an answer that no model gave, so that its later prompts are unknown.

    Args:
        strategy: Name of the strategy.
        error: What its code raised, in one line.
    """

    def __init__(self, strategy: str, error: str) -> None:
        super().__init__(
            f"the strategy {strategy} cannot go on without a model's answer: {error}",
            "let its code take any text as an answer: models do not always answer as they are asked",
        )


class StillThinkingError(EngineError):
    """A model's completion ended while it was still thinking.

    Attributes:
        by_itself: Whether the model ended its turn; otherwise it reached the token limit.
    """

    def __init__(self, by_itself: bool = False) -> None:
        self.by_itself = by_itself
        if by_itself:
            super().__init__(
                "the model ended its turn while it was still thinking",
                "give a smaller --thinking-budget, which ends the thinking earlier, or a --temperature above 0",
            )
        else:
            super().__init__(
                "the model was still thinking when it reached the token limit",
                "raise --max-tokens, or --thinking-budget if the model has one",
            )


class FatalEngineError(EngineError):
    """No further request to this engine can succeed."""


class BudgetError(FatalEngineError):
    """The budget is too small for any further request.

    Attributes:
        limit: The budget, in US dollars.
        spent: What was spent of it; answers that were lost on the way count as the most that they may have cost.
        needed: The most that the cheapest request that waited can cost.
    """

    def __init__(self, limit: float, spent: float, needed: float) -> None:
        self.limit, self.spent, self.needed = limit, spent, needed
        budget = f"the budget of {Decimal(f'{limit:g}'):f} US dollars is {'used up' if spent else 'too small'}"
        super().__init__(
            f"{budget}: {spent:.6f} spent, {max(0.0, limit - spent):.6f} left, and the next request may cost "
            f"{needed:.6f}",
            "run the same command again with a larger --budget; what was answered is kept",
        )
