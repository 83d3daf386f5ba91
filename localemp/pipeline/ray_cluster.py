"""A Ray cluster: Ray Data distributes shares of batches to actors (`ray_actor.py`), each with its own engine.

Shares are small, so that little is repeated when an actor dies. What comes back is written by `ray_driver.py`.
"""

import logging
import math
import os
import pickle
import socket
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from localemp.errors import FatalEngineError, OptionError
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.flow_copies import copies_of
from localemp.pipeline.ray_actor import ActorRow, EngineActor, Share, ShareResult
from localemp.utils.extras import install_command
from localemp.utils.plain_errors import in_words
from localemp.utils.redirect import output_to

_CONNECT_TIMEOUT = 10.0  # seconds
_SHARE = 64  # dialogues that an actor receives and returns together; each share costs Ray Data some milliseconds
_AHEAD = 2  # dialogues queued at an actor for each one in flight


class Cluster:
    """A connection to a Ray cluster. Use it in a `with` block.

    Args:
        address: "auto" for the cluster on this machine, "local" for a new one, HOST:PORT, or ray://HOST:PORT.
        log: File for Ray's output.
    """

    def __init__(self, address: str, log: Path) -> None:
        self.address, self.log = address, log
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            FatalEngineError: Ray is not installed, or the address does not respond.
        """
        _check_address(self.address)
        with self._stack:
            self._stack.enter_context(output_to(self.log))
            self._connect()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _connect(self) -> None:
        if self.address != "local":
            os.environ.setdefault(
                "RAY_NUM_REDIS_GET_RETRIES", "1"
            )  # read when Ray is imported; each attempt takes half a minute
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise FatalEngineError(f"Ray Data is not installed: {error}", install_command("ray")) from error
        try:
            ray.init(self.address, log_to_driver=False, logging_level=logging.WARNING, configure_logging=True)
        except Exception as error:  # anything can keep Ray from connecting
            hint = f"run `ray status --address {self.address}` on that machine, or see Ray's log: {self.log}"
            raise FatalEngineError(f"--ray {self.address}: {_reason(error)}", hint) from error
        self._stack.callback(ray.shutdown)

    def describe(self) -> dict[str, Any]:
        """Return version and address, for the manifest."""
        return {"ray": version("ray"), "ray_address": self.address}

    def actors_for(self, config: RunConfig) -> int:
        """Return how many engines fit the cluster: by its GPUs, or one per machine without GPUs.

        Raises:
            FatalEngineError: The cluster has GPUs, but too few for one engine.
        """
        import ray

        gpus = ray.cluster_resources().get("GPU", 0)
        if gpus == 0 or config.script is not None:
            return sum(node["Alive"] for node in ray.nodes())
        if gpus < _gpus_of(config):
            raise FatalEngineError(
                f"an engine needs {_gpus_of(config)} GPUs, but the cluster has {gpus:g}",
                "lower tensor_parallel_size, or use --actors N to wait for more machines",
            )
        return int(gpus // _gpus_of(config))

    def answers(self, batches: Sequence[Batch], actors: int) -> Generator[ShareResult, None, None]:
        """Answer all pending dialogues; yields results in the order in which actors finish shares.

        Args:
            batches: Opened batches of the same model; actors build pipelines of their own, and one with settings other
                than a batch's answers nothing of it.
            actors: Number of engines, each for all batches.

        Raises:
            FatalEngineError: Ray fails.
        """
        import ray

        pipeline = batches[0].pipeline
        config = pipeline.config
        wanted = config.concurrency or pipeline.engine().concurrency
        even = math.ceil(sum(len(batch.pending) for batch in batches) / actors)
        at_hand = min(_AHEAD * wanted, even)  # no actor starts with more than an even share
        size = max(1, min(_SHARE, at_hand // 16))
        shares = [
            pickle.dumps(Share(number, batch.pending[at : at + size]))
            for number, batch in enumerate(batches)
            for at in range(0, len(batch.pending), size)
        ]
        rows = [_actor_row(batch) for batch in batches]
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0 and config.script is None
        made_from = (rows, Path.cwd())
        gpus = _gpus_of(config) if has_gpus else 0
        try:
            if self.address.startswith("ray://"):
                relay = ray.remote(num_cpus=0)(Relay).remote(shares, made_from, actors, math.ceil(at_hand / size), gpus)
                while (answers := ray.get(relay.more.remote())) is not None:
                    yield pickle.loads(answers)
            else:
                with closing(_stream(shares, made_from, actors, math.ceil(at_hand / size), gpus)) as stream:
                    yield from map(pickle.loads, stream)
        except Exception as error:  # anything can stop Ray
            raise FatalEngineError(f"Ray stopped: {_reason(error)}", f"see the log: {self.log}") from error


class Relay:
    """Runs Ray Data inside the cluster for a Ray client process, which Ray Data does not support."""

    def __init__(self, *arguments: Any) -> None:
        self._answers = _stream(*arguments)

    def more(self) -> bytes | None:
        """Return the next results; None after the last."""
        return next(self._answers, None)


def _stream(
    shares: Sequence[bytes], made_from: tuple[Any, ...], actors: int, calls: int, gpus: int
) -> Generator[bytes, None, None]:
    """Send shares through Ray Data; shares and results are pickled.

    Args:
        shares: Each a `Share`.
        made_from: Arguments of `EngineActor`.
        actors: Number of actors.
        calls: Shares queued at each actor.
        gpus: GPUs of each actor.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = ray.data.from_items([{"share": share} for share in shares], override_num_blocks=len(shares)).map(
        EngineActor,
        fn_constructor_args=made_from,
        num_cpus=1,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(
            size=actors, max_tasks_in_flight_per_actor=calls, max_concurrent_calls_per_actor=calls
        ),
    )
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for answers in batch["answers"]:
            yield answers.as_py()


def _actor_row(batch: Batch) -> ActorRow:
    config = batch.pipeline.config
    return ActorRow(batch.name, config, batch.settings, batch.chosen[0], copies_of(config.strategy))


def _gpus_of(config: RunConfig) -> int:
    """Return the number of GPUs of one engine."""
    names = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    sizes = [config.engine_args.get(name, 1) for name in names]
    return math.prod(size for size in sizes if isinstance(size, int))


def _check_address(address: str) -> None:
    """Check within seconds whether an address responds; Ray itself would try for minutes.

    Raises:
        OptionError: The address is invalid.
        FatalEngineError: The connection fails.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise OptionError(f"--ray {address!r} is not an address", "use auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise FatalEngineError(
            f"--ray {address}: {in_words(error)}",
            "start a cluster with `ray start --head`, which prints its address",
        ) from error


def _reason(error: Exception) -> str:
    """Return the last line of Ray's message: the exception at the end of its tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
