"""What the library logs, as a person at the terminal hears of it: a line each, and tracebacks in a file.

Warnings become one line on standard error. What nobody foresaw is written with its traceback to a file in localemp's
cache that only its owner can read; one line names the file.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable

import click

from localemp.utils.paths import cache_dir
from localemp.utils.redaction import redact_text
from localemp.utils.text import for_terminal, one_line

TRACEBACK_VARIABLE = "LOCALEMP_TRACEBACK"
_LOGGER = logging.getLogger("localemp")


class Messages(logging.Handler):
    """Takes what localemp's modules log, from INFO on; what is less than a warning is shown as it is.

    Attributes:
        say: Shows a line; a `Display` puts its own here, which knows of progress bars.
        file: Where tracebacks go; there once there was one.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.say: Callable[[str], object] = lambda text: click.echo(for_terminal(text), err=True)
        self.file = cache_dir("logs", f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log")
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, and keep its traceback."""
        if record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt):
            return  # pressed again while a loop ended
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.exc_info:
            text, fault = f"{text}; {self.keep(record)}", repr(record.exc_info[1])
            # The same fault in a thousand dialogues is one line here, and a thousand in the file.
            if fault in self._said:
                return
            self._said.add(fault)
        self.say(text)

    def keep(self, record: logging.LogRecord) -> str:
        """Write a record with its traceback to the file; says where it is."""
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.file, flags, 0o600), "a", encoding="utf-8") as file:
                file.write(redact_text(f"{self.format(record)}\n"))
            return f"the traceback is in {self.file}"
        return f"{TRACEBACK_VARIABLE}=1 shows the traceback"


messages = Messages()
"""Of this process; `listen` lets it hear."""


def listen() -> None:
    """Show what is logged from now on."""
    for logger in (_LOGGER, logging.getLogger("asyncio")):
        if messages not in logger.handlers:
            logger.addHandler(messages)
    _LOGGER.setLevel(logging.INFO)


def unexpected(error: BaseException) -> tuple[str, str]:
    """What to say of an exception that nobody foresaw, and the next step; its traceback is kept."""
    info = (type(error), error, error.__traceback__)
    where = messages.keep(_LOGGER.makeRecord("localemp", logging.ERROR, "", 0, "unexpected", (), info))
    said = one_line(redact_text(str(error)))
    name = type(error).__name__
    return f"{name}: {said}" if said else name, f"{where}; report it with that, if localemp is at fault"
