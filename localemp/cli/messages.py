"""Shows the library's log messages in the terminal, one line each, and writes tracebacks to a file.

Warnings are one line on standard error. The traceback of an unexpected exception is written to a file in localemp's
cache, readable only by its owner; one line names the file.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable

import click

from localemp.utils.extras import extra_of, install_command
from localemp.utils.paths import cache_dir
from localemp.utils.plugins import whose_fault
from localemp.utils.redaction import redact_text
from localemp.utils.text import for_terminal, one_line

TRACEBACK_VARIABLE = "LOCALEMP_TRACEBACK"
_LOGGER = logging.getLogger("localemp")


class Messages(logging.Handler):
    """Shows log records of localemp's modules, from INFO on; those below a warning have no prefix.

    Attributes:
        say: Prints a line; a `Display` replaces it while it shows progress bars.
        file: File for tracebacks, created with the first one.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.say: Callable[[str], object] = lambda text: click.echo(for_terminal(text), err=True)
        self.file = cache_dir("logs", f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log")
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, and store its traceback."""
        if record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt):
            return  # Ctrl-C again while an event loop ends
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.exc_info:
            text, fault = f"{text}; {self.keep(record)}", repr(record.exc_info[1])
            # The same exception in a thousand dialogues is shown once, and stored a thousand times.
            if fault in self._said:
                return
            self._said.add(fault)
        self.say(text)

    def keep(self, record: logging.LogRecord) -> str:
        """Write a record with its traceback to the file; return where it is."""
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.file, flags, 0o600), "a", encoding="utf-8") as file:
                file.write(redact_text(f"{self.format(record)}\n"))
            return f"the traceback is in {self.file}"
        return f"set {TRACEBACK_VARIABLE}=1 to see the traceback"


messages = Messages()
"""The handler of this process; `listen` attaches it."""


def listen() -> None:
    """Show log messages from now on."""
    for logger in (_LOGGER, logging.getLogger("asyncio")):
        if messages not in logger.handlers:
            logger.addHandler(messages)
    _LOGGER.setLevel(logging.INFO)


def unexpected(error: BaseException) -> tuple[str, str]:
    """Return message and hint for an unexpected exception, and store its traceback."""
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name or "")):
        return f"{error.name} is not installed", install_command(extra)
    info = (type(error), error, error.__traceback__)
    where = messages.keep(_LOGGER.makeRecord("localemp", logging.ERROR, "", 0, "unexpected", (), info))
    text = one_line(redact_text(str(error)))
    name = type(error).__name__
    told = f"{name}: {text}" if text else name
    if plugin := whose_fault(error):
        return f"the plug-in package {plugin}: {told}", f"{where}; please report it to those who made the package"
    return told, f"{where}; please report it if this is a bug in localemp"
