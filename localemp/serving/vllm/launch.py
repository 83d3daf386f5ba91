"""vLLM's API server as a separate process: its start, its status, the cause if it dies, and its end."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from localemp.engines.vllm.process import first_error, known_cause, new_log, stop_on_exit
from localemp.errors import FatalEngineError, LocalempError, OptionError
from localemp.utils.progress import OnProgress, Progress, silent

_POLL = 0.2  # seconds between checks of a starting server
_PATIENCE = 30  # seconds that a server has to exit once all requests are finished
_LAST_WORDS = 4 * 2**20  # bytes at the end of the log that are searched for the reason of a crash


class Server:
    """A server in its own process group, which ends when this object or this process does.

    Args:
        command: The command that starts it.
        url: The URL that it will listen on.
        env: Added to our environment; None removes a variable. The place for secrets.
        key: The API key that it requires.
        log: File for its output; None for a new file in localemp's cache.
        drain: Seconds that running requests get to finish when the server is stopped.
    """

    def __init__(
        self,
        command: Sequence[str],
        url: str,
        *,
        env: Mapping[str, str | None] | None = None,
        key: str | None = None,
        log: Path | None = None,
        drain: int = 0,
    ) -> None:
        self._patience = drain + _PATIENCE
        self.command, self.url, self.log = list(command), url, log or new_log("serve")
        merged = {**os.environ, **(env or {})}
        self._env = {name: value for name, value in merged.items() if value is not None}
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._read = self._mark = 0
        self._doing = "importing vLLM"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process; it becomes ready later."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._read = self._mark = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # Its own group: Ctrl-C in the terminal reaches only us, and we stop it in an orderly way.
            self._process = subprocess.Popen(
                self.command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._watch = stop_on_exit([-self._process.pid])

    def wait_until_ready(self, on_progress: OnProgress = silent) -> list[str]:
        """Wait until the server answers.

        Args:
            on_progress: Called repeatedly with what the server is doing.

        Returns:
            The names of its models.

        Raises:
            FatalEngineError: It exited; says why.
            OptionError: It rejected its options.
        """
        # No proxy; a self-signed certificate cannot be verified.
        with httpx.Client(base_url=self.url, timeout=5, trust_env=False, verify=False) as client:
            while not _healthy(client):
                if self._running().poll() is not None:
                    raise self._reason("could not start")
                on_progress(Progress(self._now_doing()))
                time.sleep(_POLL)
            try:
                listing = client.get("/v1/models", headers=self._headers, timeout=60).raise_for_status().json()
                names = [str(model["id"]) for model in listing["data"]]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise FatalEngineError(
                    f"the server does not list its models: {error}", f"its log: {self.log}"
                ) from error
        self._mark = self.log.stat().st_size  # errors that were overcome so far do not explain a later crash
        return names

    def wait(self) -> None:
        """Wait until a ready server exits.

        Raises:
            FatalEngineError: It ended unexpectedly; says why.
        """
        self._running().wait()
        raise self._reason("died")

    def stop(self) -> None:
        """Stop the server and everything that it started; an interrupt meanwhile kills it."""
        if self._process is None:
            return
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(self._patience)
        finally:
            with suppress(ProcessLookupError):  # nothing is left of the group
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._watch is not None:
                self._watch.kill()
                self._watch.communicate()
            self._process = self._watch = None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise FatalEngineError("the server is not started", "use `with server:` or `server.start()`")
        return self._process

    def _now_doing(self) -> str:
        """Return a description of the newest log line that shows progress."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        # A line that is still being written is read again; a progress bar ends its lines with "\r".
        whole = max(new.rfind(b"\n"), new.rfind(b"\r")) + 1
        self._read += whole
        for line in re.split(r"[\r\n]+", new[:whole].decode("utf-8", "replace")):
            for pattern, words in _DOING:
                if found := pattern.search(line):
                    self._doing = words.format(*found.groups())
        return self._doing

    def _reason(self, what: str) -> LocalempError:
        """Return why it ended, and the path of the log."""
        size = self.log.stat().st_size
        with self.log.open("rb") as log:
            log.seek(max(self._mark, size - _LAST_WORDS))
            said = log.read().decode("utf-8", "replace")
        code, see = self._running().wait(), f"its log: {self.log}"
        if refused := _REFUSED.search(said):
            return OptionError(f"vLLM refuses these options: {refused[1].strip()}", see)
        if known := known_cause(said, lambda name: f"-- --{name.replace('_', '-')}"):
            reason, hint = known
            return FatalEngineError(f"vLLM's server {what}: {reason}", f"{hint}; {see}")
        ended = f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        if code == -signal.SIGKILL:
            ended = "it was killed, as Linux does when memory runs out"
        return FatalEngineError(f"vLLM's server {what}: {first_error(said) or ended}", see)


# Lines of vLLM's log in order, and what they mean; braces are replaced by the groups.
_DOING = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Resolved architecture", "starting the engine"),
        (r"Starting to load model", "loading the weights"),
        (r"checkpoint shards:[^\n]{0,100}?(\d{1,5})/(\d{1,5})", "loading the weights, {} of {} files"),
        (r"(?:Model loading|Loading weights) took", "making room for the KV cache"),
        (r"for vLLM's torch\.compile|Dynamo bytecode|Compiling a graph", "compiling"),
        (r"torch\.compile took", "making room for the KV cache"),
        (r"KV cache size:", "warming up"),
        (r"Capturing CUDA graphs", "capturing CUDA graphs"),
        (r"init engine \(|Starting vLLM server on", "starting the server"),
        (r"(?:^|\) )localemp: (.+)", "{}"),
    )
]
_REFUSED = re.compile(r"^vllm(?: serve)?: error: (.+)", re.MULTILINE)


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False
