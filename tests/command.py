"""The `localemp` command as tests run it: in this process, or in one of its own where a test needs that."""

import asyncio
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from patience import patience

from localemp.cli import main as entry
from localemp.cli.messages import Messages, messages

# Read when Python or a library starts, which in this process is long past.
_READ_ONCE = ("PYTHON", "HF_", "TRANSFORMERS_", "OMP_", "RAY_", "VLLM_")
_AT_START = dict(os.environ)
_LOGGERS = (None, "localemp", "asyncio", "uvicorn", "uvicorn.error")


class Localemp:
    """Runs the `localemp` command in a folder, as a person would.

    Args:
        folder: The folder.
        program: A `localemp` of another environment, for what runs in a process of its own.
    """

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        self.folder, self.program = folder, program

    def command(self, *words: object) -> list[str]:
        program = [sys.executable, "-m", "localemp.cli.main"] if self.program is None else [str(self.program)]
        return [*program, *map(str, words)]

    def __call__(
        self, *words: object, env: dict[str, str] | None = None, typed: str = "", alone: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """Run to the end; standard output and error are kept as text. No traceback may ever show.

        It runs in this process, which saves seconds of imports, unless it is to be alone, or that cannot be: in another
        thread, under an event loop, or with an environment that is read only once.
        """
        environment = {**os.environ, "COLUMNS": "160", **(env or {})}
        changed = {name for name, value in environment.items() if _AT_START.get(name) != value}
        alone = (
            alone
            or any(name.startswith(_READ_ONCE) for name in changed)
            or threading.current_thread() is not threading.main_thread()
            or asyncio._get_running_loop() is not None
        )
        run = self._alone if alone else self._here
        done = run([str(word) for word in words], environment, typed)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def _alone(self, words: list[str], environment: dict[str, str], typed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=patience(300),
        )

    def _here(self, words: list[str], environment: dict[str, str], typed: str) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryFile("w+", 1, "utf-8") as out, tempfile.TemporaryFile("w+", 1, "utf-8") as err:
            with _like_a_new_process(self.folder, words, environment, typed, out, err):
                try:
                    entry.main()
                    code: object = 0
                except SystemExit as ended:
                    code = ended.code
                except BaseException:
                    traceback.print_exc()
                    code = 1
            shown = [_all_of(stream) for stream in (out, err)]
        return subprocess.CompletedProcess(words, code if isinstance(code, int) else int(code is not None), *shown)

    def on_terminal(self, *words: object) -> tuple[int, str, str]:
        """Run to the end with standard error on a terminal; returns exit code, standard output, what it showed."""
        ours, theirs = os.openpty()
        shown = []

        def read() -> None:
            with contextlib.suppress(OSError):  # raised at the end of a terminal
                while data := os.read(ours, 65536):
                    shown.append(data)

        reader = threading.Thread(target=read)
        reader.start()
        done = subprocess.run(
            self.command(*words), cwd=self.folder, stdout=subprocess.PIPE, stderr=theirs, timeout=patience(300)
        )
        os.close(theirs)
        reader.join()
        os.close(ours)
        return done.returncode, done.stdout.decode(), b"".join(shown).decode()

    def start(self, *words: object) -> "subprocess.Popen[str]":
        """Start and return at once; Ctrl-C works even where these tests run in the background, which ignores it."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@contextlib.contextmanager
def _like_a_new_process(
    folder: Path, words: list[str], environment: dict[str, str], typed: str, out: IO[str], err: IO[str]
) -> Iterator[None]:
    """Give the command a process's streams, folder, environment, signals, logging and warnings; take them back."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.callback(_set_environment, dict(os.environ))
        for name in ("argv", "stdin", "stdout", "stderr", "excepthook", "unraisablehook"):
            stack.callback(setattr, sys, name, getattr(sys, name))
        stack.callback(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.getsignal(number))
        for name in _LOGGERS:
            stack.callback(_set_logger, logging.getLogger(name), *_logger_state(name))
        stack.callback(vars(messages).update, dict(vars(messages)))
        stack.enter_context(warnings.catch_warnings())
        for descriptor, stream in ((1, out), (2, err)):
            stack.callback(_put_back, descriptor, os.dup(descriptor))
            os.dup2(stream.fileno(), descriptor)

        _set_environment(environment)
        sys.argv = ["localemp", *words]
        sys.modules["__main__"] = entry  # what `python -m` has there; click names the command by it
        sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(typed.encode()), "utf-8"), out, err
        logging.getLogger().handlers = []
        vars(messages).update(vars(Messages()))
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = _show_warning
        yield
        out.flush()
        err.flush()


def _set_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _logger_state(name: str | None) -> tuple[list[logging.Handler], int, bool]:
    logger = logging.getLogger(name)
    return list(logger.handlers), logger.level, logger.propagate


def _set_logger(logger: logging.Logger, handlers: list[logging.Handler], level: int, propagate: bool) -> None:
    logger.handlers = handlers
    logger.setLevel(level)
    logger.propagate = propagate


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _put_back(descriptor: int, kept: int) -> None:
    os.dup2(kept, descriptor)
    os.close(kept)


def _all_of(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()
