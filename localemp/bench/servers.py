"""Local servers of vLLM to measure, with and without localemp's middleware."""

import socket
from collections.abc import Sequence

from localemp.models.adapters import Adapter
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.settings import ServeSettings
from localemp.serving.vllm.command import MIDDLEWARE, RUST, vllm_command
from localemp.serving.vllm.launch import Server


def vllm_server(
    pipeline: Pipeline,
    settings: ServeSettings | None,
    options: Sequence[str],
    key: str = "",
    adapters: Sequence[Adapter] = (),
) -> Server:
    """Return a server of vLLM on a free port, not started yet; with localemp's middleware or, without settings, bare.

    Args:
        pipeline: The model and its weights.
        settings: The settings of localemp's middleware.
        options: Options for vLLM.
        key: The server's API key, which the settings have, too.
        adapters: The model's adapters, which the settings have, too.
    """
    port = free_port()
    command = vllm_command(pipeline, "127.0.0.1", port, options, adapters=adapters)
    # As `localemp serve` does it: no key of the environment's, and the front end that takes a middleware; bare too.
    env: dict[str, str | None] = {"VLLM_API_KEY": None, RUST: None}
    if settings is None:
        where = command.index(MIDDLEWARE)
        del command[where - 1 : where + 1]
    else:
        env |= settings.to_env()
    return Server(command, f"http://127.0.0.1:{port}", env=env, key=key or None)


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
