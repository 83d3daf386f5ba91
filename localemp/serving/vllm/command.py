"""The command that serves a model through vLLM and our middleware, and the checks before it is run."""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from localemp.errors import OptionError, WeightsError
from localemp.models.adapters import Adapter
from localemp.models.data_only import read_settings
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.vllm.adapters import adapter_options, check_names, find_adapters
from localemp.serving.vllm.options import as_options

MIDDLEWARE = "localemp.serving.middleware.StrategyMiddleware"
LONGEST_CONTEXT = 4096  # dialogues are short; --max-model-len allows longer ones

# The chat template for models without one: joins texts as `engines/tokens.py` does.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{{ '' if loop.last else '\\n\\n' }}{% endfor %}"

# vLLM's front end in Rust runs no Python, so it would serve everyone, whatever their key, and no strategy.
RUST = "VLLM_USE_RUST_FRONTEND"
_RUNTIME_LORA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_OFF = ("", "0", "false", "no", "off")
_NO_RUST = "vLLM's Rust front end runs no Python middleware, and so neither keys nor strategies"

# Options of vLLM that localemp sets itself or that disable the API, and what to do instead.
NOT_FOR_VLLM = {
    "--host": "give it before the --",
    "--port": "give it before the --",
    "--api-key": "give it before the --, or in LOCALEMP_API_KEY",
    "--model": "give it before the --",
    "--served-model-name": "the name is that of the model or its profile",
    "--uds": "localemp serves a host and a port",
    "--grpc": "localemp serves HTTP",
    "--grpc-port": _NO_RUST,
    "--allowed-origins": "give it as --allow-origin before the --",
    "--shutdown-timeout": "give it as --drain before the --",
    "--headless": "localemp does not run there: use vLLM's own command",
}


def prepare(pipeline: Pipeline, strategies: Sequence[str], adapters: Sequence[str] = ()) -> list[Adapter]:
    """Fetch and check everything that is served, before the slow start of the engine.

    Args:
        pipeline: The model.
        strategies: The names of the offered strategies.
        adapters: The model's adapters as they were typed: "mine=adapters/listener".

    Returns:
        The adapters.

    Raises:
        LocalempError: Something cannot be fetched or used.
    """
    if (engine := pipeline.profile.engine) not in ("vllm", "openai"):
        raise OptionError(f"the engine {engine!r} cannot be served", "serve a model of vLLM, or a server's")
    pipeline.check_deterministic()
    pipeline.check_takes_sampling()
    pipeline.check_effect()
    _ = pipeline.thinking  # a wrong option is reported before anything is fetched
    check_names(pipeline.profile.name, adapters)
    if adapters and not pipeline.runs_here:
        find_adapters(pipeline, adapters)  # says that the server has them
    pipeline.fetch(strategies)
    if pipeline.runs_here:
        _ = pipeline.weights
    return find_adapters(pipeline, adapters)


def check_options(options: Sequence[str]) -> None:
    """Reject options for vLLM that localemp sets itself.

    Raises:
        OptionError: One is.
    """
    if options and not options[0].startswith("-"):
        raise OptionError(f"{options[0]!r} is not an option for vLLM", "a model is named with --model")
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if name in NOT_FOR_VLLM:
            raise OptionError(f"{name} cannot go to vLLM", NOT_FOR_VLLM[name])


def check_environment(environment: Mapping[str, str], adapters: Sequence[str] = ()) -> None:
    """Reject vLLM's Rust front end, and adapters that clients could replace by others of the same name.

    Args:
        environment: The environment that vLLM's server will have.
        adapters: The adapters that are to be served.

    Raises:
        OptionError: The environment asks for one of these.
    """
    if adapters and environment.get(_RUNTIME_LORA, "").strip().lower() not in _OFF:
        raise OptionError(
            f"{_RUNTIME_LORA} is set: clients could replace an adapter of --adapter by any folder of this machine",
            "unset it; an adapter that is named with --adapter is loaded at the start",
        )
    if environment.get(RUST, "").strip().lower() not in _OFF:
        raise OptionError(
            f"{RUST} is set: {_NO_RUST}",
            "unset it; or run `vllm serve` with it yourself, and `localemp serve --upstream URL` before that",
        )


def check_port(host: str, port: int) -> None:
    """Check that a server can listen here.

    Raises:
        OptionError: The port is taken, or the host is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OptionError(f"--host {host}: no such address ({error.strerror})") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            hint = f"end the program that listens there, or take another: --port {port + 1}"
            said = f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0).lower()}"
            raise OptionError(said, hint if "in use" in said else "") from error


def url_of(host: str, port: int, options: Sequence[str] = ()) -> str:
    """Return the URL for clients on this machine."""
    scheme = "https" if any(option.startswith(("--ssl-certfile", "--ssl_certfile")) for option in options) else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def vllm_command(
    pipeline: Pipeline,
    host: str,
    port: int,
    options: Sequence[str] = (),
    drain: int = 0,
    adapters: Sequence[Adapter] = (),
) -> list[str]:
    """Return the command that serves a model through vLLM and our middleware; the user's options come last and win.

    Args:
        pipeline: Provides the model and its weights.
        host: The address to listen on.
        port: The port to listen on.
        options: Further options for vLLM, unchanged.
        drain: Seconds that running requests get to finish when the server is stopped.
        adapters: The model's adapters.

    Raises:
        OptionError: The options exclude an adapter.
    """
    profile, folder = pipeline.profile, pipeline.weights.folder
    command = [sys.executable, "-m", "localemp.serving.vllm.main", str(folder)]
    command += ["--served-model-name", profile.name, "--host", host, "--port", str(port)]
    thinking = pipeline.thinking
    longest = min(LONGEST_CONTEXT + (thinking.budget or 0), pipeline.context_length)
    command += ["--middleware", MIDDLEWARE, "--max-model-len", str(longest)]
    command += ["--seed", str(pipeline.config.seed), "--no-enable-log-requests", "--disable-uvicorn-access-log"]
    command += ["--shutdown-timeout", str(drain)]
    if thinking.template_options:
        command += ["--default-chat-template-kwargs", json.dumps(dict(thinking.template_options))]
    command += as_options(thinking.engine_args)
    if not _has_chat_template(folder):
        command += ["--chat-template", _begin_of_text(pipeline) + PLAIN_TEMPLATE]
    return [*command, *adapter_options(profile.name, adapters, options), *options]


def _has_chat_template(folder: Path) -> bool:
    """Return whether transformers would find a chat template, without importing it."""
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    try:
        return "chat_template" in read_settings(folder / "tokenizer_config.json")
    except WeightsError:
        return False


def _begin_of_text(pipeline: Pipeline) -> str:
    """Return the start of a plain template: vLLM never adds special tokens to chats, even if the model needs them."""
    tokenizer = pipeline.tokenizer.tokenizer
    first = tokenizer("text")["input_ids"][0]
    return "{{ bos_token }}" if first == tokenizer.bos_token_id else ""
