"""Finds the running server that `respond` and `chat` may use, and says which one it is, or why none is used."""

import logging
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx

from localemp.errors import EngineError, OptionError
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.api_key import KEY_VARIABLE, key_to_send
from localemp.serving.matching import model_at, why_not
from localemp.serving.running import RunningServer, profile_hash, running_servers
from localemp.serving.settings import ServeSettings
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.plain_errors import in_words
from localemp.utils.text import one_line

AUTO, NONE = "auto", "none"

_PATIENCE = 5.0  # seconds that a server has to list its models
_LARGEST_LIST = 4 * 2**20  # bytes
_log = logging.getLogger(__name__)


def find_server(choice: str, pipeline: Pipeline) -> RunningServer | None:
    """Return the server to use; None to load the model in this process.

    Args:
        choice: "auto" for a server of this machine that would answer as this process would, "none", or a URL.
        pipeline: What is asked for.

    Raises:
        OptionError: The server at the URL would not answer as this process would, or there is none.
    """
    if choice == NONE:
        return None
    config = pipeline.config
    if choice != AUTO and (config.script is not None or config.base_url is not None):
        option = "--script" if config.script is not None else "--base-url"
        raise OptionError(f"--server {choice} and {option} exclude each other", "omit one of them")
    return _find_own(pipeline) if choice == AUTO else _find_at(choice, pipeline)


def _find_own(pipeline: Pipeline) -> RunningServer | None:
    config = pipeline.config
    if config.script is not None or config.base_url is not None or pipeline.profile.engine != "vllm":
        return None  # nothing to load
    refused = []
    for server in running_servers():
        why = why_not(server, pipeline) or _unusable(server, pipeline)
        if not why:
            _log.info("using the server for %s at %s; --server none loads the model here", server.model, server.url)
            return server
        refused.append(f"a server for {server.model} runs at {server.url}; it is not used: {why}")
    for note in refused:
        _log.info("%s", note)
    return None


def _find_at(url: str, pipeline: Pipeline) -> RunningServer:
    address = url.rstrip("/").removesuffix("/v1").rstrip("/")
    known = next((server for server in running_servers() if server.url == address), None)
    server = known or _described(address, pipeline)
    if why := why_not(server, pipeline) or _unusable(server, pipeline):
        hint = "omit --server to load the model here, or start a server that matches: localemp serve --help"
        raise OptionError(f"the server at {server.url} cannot be used: {why}", hint)
    if known is None:
        _log.info("using the server at %s; its operator decides on seed, sampling and thinking", address)
    return server


def _described(url: str, pipeline: Pipeline) -> RunningServer:
    """Return a server that has no file here, as far as its list of models tells; the rest is taken to match.

    Raises:
        OptionError: There is none.
    """
    profile, config = pipeline.profile, pipeline.config
    unknown = RunningServer(
        localemp=version("localemp"),
        machine="",
        pid=1,
        started=None,
        url=url,
        model=profile.name,
        profile_sha256=profile_hash(profile),
        config={name: value for name, value in _sendable(config.changed()).items() if name != "adapter"},
        strategies=(),
        flows={},
        adapters={},
        engine_args=dict(config.engine_args),
        needs_key=False,
    )
    try:
        entries = _models(unknown)
    except EngineError as error:
        raise OptionError(f"--server {url}: {error.message}", error.hint) from error
    names = [str(entry["id"]) for entry in entries]
    adapters = {
        str(entry["adapter"]): str(entry.get("adapter_sha256"))
        for entry in entries
        if isinstance(entry.get("adapter"), str) and ":" not in str(entry["id"])
    }
    bare = [name for name in names if ":" not in name and "@" not in name]
    model = profile.name if profile.name in names else next(iter(bare), "another model")
    offered = tuple(name.removeprefix(f"{model}:") for name in names if name.startswith(f"{model}:"))
    return unknown.model_copy(update={"model": model, "strategies": offered, "adapters": adapters})


def _sendable(settings: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = ServeSettings(model="", config=settings).model_dump(mode="json")["config"]
    return plain


def _unusable(server: RunningServer, pipeline: Pipeline) -> str:
    """Return why a server cannot be asked now; empty if it can."""
    if server.needs_key and not key_to_send():
        return f"it needs a key; set {KEY_VARIABLE}"
    try:
        names = [entry["id"] for entry in _models(server)]
    except EngineError as error:
        return error.message
    wanted = model_at(server, pipeline.config)
    return "" if wanted in names else f"it does not list {wanted}"


def _models(server: RunningServer) -> list[dict[str, Any]]:
    """Return the entries of a server's list of models.

    Raises:
        EngineError: It does not answer in time, or not with a list.
    """
    headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if (key := key_to_send()) else {})
    try:
        with (
            httpx.Client(timeout=_PATIENCE, **server.http_options) as client,
            client.stream("GET", f"{server.url}/v1/models", headers=headers) as answer,
        ):
            content = b"".join(_beginning(answer))
            status = answer.status_code
    except httpx.TimeoutException as error:
        raise EngineError(f"it did not answer within {_PATIENCE:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EngineError(f"it cannot be reached ({one_line(in_words(error))})") from error
    if status == 401:
        raise EngineError("it refuses the key", f"set {KEY_VARIABLE} to one of its keys")
    try:
        found = parse_json(content)
        return [entry for entry in found["data"] if isinstance(entry["id"], str)]
    except (JSONError, KeyError, TypeError) as error:
        raise EngineError(f"it answers with status {status}, and no list of models") from error


def _beginning(answer: httpx.Response) -> Iterator[bytes]:
    """Yield the list, up to its largest size; what is compressed stays so, and is no list.

    Raises:
        httpx.ReadTimeout: It comes in drops.
    """
    size, until = 0, time.monotonic() + _PATIENCE
    for part in answer.iter_raw():
        size += len(part)
        if size > _LARGEST_LIST:
            return
        if time.monotonic() > until:
            raise httpx.ReadTimeout("too slow")
        yield part
