"""Steps that fail alone: one that fails is named with the command that repeats it, and the others go on."""

import logging
from collections.abc import Callable
from typing import TypeVar

from localemp.errors import LocalempError
from localemp.utils.plain_errors import in_words
from localemp.utils.redaction import redact_text
from localemp.utils.text import one_line

RUN_AGAIN = "run the experiment again"
"""In the place of a command that does not exist."""

T = TypeVar("T")
_LONGEST = 1000  # characters of a reason
_log = logging.getLogger(__name__)


class IsolatedSteps:
    """Runs steps, and collects what failed.

    Attributes:
        failures: A line for each step that failed: its name, the reason, and the command that repeats it.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []

    def run(self, name: str, command: str, step: Callable[[], T]) -> T | None:
        """Run a step; None if it fails.

        Args:
            name: Its name in the failures.
            command: The command that repeats it.
            step: The step.
        """
        try:
            return step()
        except LocalempError as error:
            self.fail(name, error_with_notes(error), command)
        except Exception as error:  # not foreseen; still no reason to lose the other steps
            _log.error("%s: %s: %s", name, type(error).__name__, error, exc_info=error)
            self.fail(name, f"{type(error).__name__}: {in_words(error)}", command)
        return None

    def fail(self, name: str, reason: str, command: str) -> None:
        """Add a failure."""
        self.failures.append(
            f"{name}: {redact_text(one_line(reason, _LONGEST)).rstrip('.')}. To repeat this step: {command}"
        )


def error_with_notes(error: LocalempError) -> str:
    """Return an error with its hint and its notes, such as how much is saved."""
    return "; ".join([error.with_hint, *getattr(error, "__notes__", [])])
