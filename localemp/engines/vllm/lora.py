"""What vLLM is told of LoRA adapters: engine arguments, and the adapter of a request."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from localemp.errors import OptionError
from localemp.models.adapters import RANKS, Adapter

if TYPE_CHECKING:
    from localemp.engines.vllm.names import LoRARequest

CPU_EXTENSION = "localemp.engines.vllm.cpu_lora.FasterLoRA"
"""The extension of vLLM's worker with localemp's way of multiplying on CPUs, which is much faster than vLLM's."""

_AT_ONCE = 8
"""Most adapters in one batch; each takes memory of the model's device. Requests of others wait for a place."""


def lora_args(
    adapters: Collection[Adapter],
    engine_args: Mapping[str, Any],
    *,
    on_cpu: bool,
    typed: Callable[[str], str] = lambda name: f"--engine-arg {name}=",
) -> dict[str, Any]:
    """Return the engine arguments for adapters; empty without any. The user's own take precedence.

    Args:
        adapters: All that requests can have.
        engine_args: The user's arguments.
        on_cpu: Whether the model runs on the CPU, where localemp's way of multiplying is much faster than vLLM's.
        typed: How a user gives an engine argument, for errors.

    Raises:
        OptionError: The user's arguments leave no room for an adapter.
    """
    if not adapters:
        return {}
    largest = max(adapters, key=lambda adapter: adapter.rank)
    chosen: dict[str, Any] = {
        "enable_lora": True,
        "max_loras": min(len(adapters), _AT_ONCE),
        "max_lora_rank": next(rank for rank in RANKS if rank >= largest.rank),
    }
    if on_cpu:
        chosen["worker_extension_cls"] = CPU_EXTENSION
    chosen |= engine_args
    if type(at_once := chosen["max_loras"]) is int:
        chosen.setdefault("max_cpu_loras", max(at_once, len(adapters)))
    if not chosen["enable_lora"]:
        raise OptionError(f"{typed('enable_lora')}false and --adapter exclude each other", "omit one of them")
    if type(most := chosen["max_lora_rank"]) is int and most < largest.rank:
        raise OptionError(
            f"{typed('max_lora_rank')}{most}: the adapter {largest.name} has rank {largest.rank}",
            "omit it, or raise it",
        )
    return {name: value for name, value in chosen.items() if name not in engine_args}


def lora_request(adapter: Adapter, number: int) -> "LoRARequest":
    """Return what a request says of its adapter.

    Args:
        adapter: The adapter.
        number: Its number among the engine's, from 1.
    """
    from localemp.engines.vllm.names import LoRARequest

    # vLLM tells adapters apart by this name, also in the prefix cache: two of the same name must not be taken for one.
    return LoRARequest(f"{adapter.name}-{adapter.sha256[:12]}", number, str(adapter.folder))
