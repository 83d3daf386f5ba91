"""Deterministic replies: vLLM's batch-invariant mode where the hardware has it, else one request at a time.

Sums of floating-point numbers depend on their order, and kernels choose the order by the size of the batch. So the same
prompt can have slightly different logits next to other requests, and another reply. Batch-invariant kernels keep one
order. Without them, every request is computed alone and without a prefix cache, so that no step depends on others.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localemp.engines.vllm.versions import require_vllm
from localemp.errors import OptionError
from localemp.utils.redirect import output_to

BATCH_INVARIANT = "batch-invariant"
ONE_AT_A_TIME = "one at a time"

# vLLM 0.32 has batch-invariant kernels for NVIDIA GPUs from this compute capability on (8.0).
_CAPABILITY = 80
_ALONE = {"max_num_seqs": 1, "enable_prefix_caching": False}


@dataclass(frozen=True, slots=True)
class Determinism:
    """How replies are made deterministic on this machine.

    Attributes:
        how: `BATCH_INVARIANT` or `ONE_AT_A_TIME`.
        note: The same as a line for the user, with the reason.
        engine_args: Engine arguments that it needs.
        env: Environment variables that vLLM's processes need, and vLLM itself when it is imported.
    """

    how: str
    note: str
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def check(
        self,
        engine_args: Mapping[str, Any],
        typed: Callable[[str, Any], str] = lambda name, value: f"--engine-arg {name}={value}",
    ) -> None:
        """Check that the user's engine arguments do not contradict it.

        Args:
            engine_args: The user's arguments.
            typed: How a user gives an engine argument, for errors.

        Raises:
            OptionError: One does.
        """
        for name, needed in self.engine_args.items():
            if (value := engine_args.get(name, needed)) != needed:
                raise OptionError(
                    f"--deterministic: {typed(name, value)} contradicts it ({self.how} here)",
                    "leave one of the two out",
                )

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """Set the environment variables inside the block; processes that start there inherit them."""
        before = {name: os.environ.get(name) for name in self.env}
        os.environ.update(self.env)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def determinism() -> Determinism:
    """Return how replies are made deterministic on the hardware that vLLM finds here; imports vLLM's platforms.

    Raises:
        FatalEngineError: vLLM is not installed.
    """
    require_vllm()
    with output_to(Path(os.devnull)):
        from localemp.engines.vllm.names import current_platform

        batch_invariant = current_platform.is_cuda() and current_platform.has_device_capability(_CAPABILITY)
        device = "a CPU" if current_platform.is_cpu() else current_platform.device_name or "this device"
    if batch_invariant:
        return Determinism(
            BATCH_INVARIANT,
            "deterministic: vLLM's batch-invariant kernels, which are slower",
            # The engine's process imports vLLM anew: kernels read the variable when they are imported.
            env={"VLLM_BATCH_INVARIANT": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
        )
    return Determinism(
        ONE_AT_A_TIME,
        "deterministic: one request at a time and no prefix cache, which is slow; "
        f"vLLM has batch-invariant kernels for NVIDIA GPUs of compute capability 8.0 and later, not for {device}",
        _ALONE,
    )
