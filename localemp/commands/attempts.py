"""Steps that stand alone: one that fails is named with the command that does it alone, and the others go on."""

import logging
from collections.abc import Callable
from typing import TypeVar

from localemp.errors import LocalempError
from localemp.utils.text import one_line

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Attempts:
    """Takes steps, and keeps what failed.

    Attributes:
        failures: Each step that failed, with the reason and the command that does it alone.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []

    def __call__(self, what: str, command: str, step: Callable[[], T]) -> T | None:
        """Take a step; None if it fails.

        Args:
            what: Its name in the failures.
            command: What does it alone.
            step: The step.
        """
        try:
            return step()
        except LocalempError as error:
            notes = getattr(error, "__notes__", [])
            self.failed(what, "; ".join([error.with_hint, *notes]), command)
        except Exception as error:  # not foreseen; still no reason to lose the other steps
            _log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)
            self.failed(what, f"{type(error).__name__}: {error}", command)
        return None

    def failed(self, what: str, reason: str, command: str) -> None:
        """Note a failure."""
        self.failures.append(f"{what}: {one_line(reason)}. Alone: {command}")
