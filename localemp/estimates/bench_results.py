"""Results of `localemp bench` that tell something of a run on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.bench.result import Result, read_result
from localemp.errors import LocalempError
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.machine import machine

RESULTS = Path("bench")
# What of a machine and of an engine's arguments decides speed.
_MACHINE = ("GPU", "processor", "cores", "memory")
_ARGUMENTS = (
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "speculative_config",
)
_MOST_FILES = 200
_LARGEST_FILE = 32 * 2**20  # bytes; a result has some hundred kilobytes
_NUMBERS = frozenset(
    [
        "block_size",
        "data_parallel_size",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_seqs",
        "num_gpu_blocks_override",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    ]
)


def numeric(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine arguments without sizes that are no numbers, which vLLM will report."""
    return {
        name: value
        for name, value in engine_args.items()
        if name not in _NUMBERS or (isinstance(value, int | float) and value > 0)
    }


def results_in(folder: Path) -> Iterator[tuple[Path, Result]]:
    """Yield the results in a folder, the newest first."""
    try:
        found = [(path.stat(), path) for path in sorted(folder.glob("*.json")) if path.is_file()]
    except OSError:
        return
    small = [(stat.st_mtime, path) for stat, path in found if stat.st_size <= _LARGEST_FILE]
    for _, path in sorted(small, reverse=True)[:_MOST_FILES]:
        try:
            yield path, read_result(path)
        except LocalempError:
            continue  # another file


def results_of_this_machine(folder: Path) -> Iterator[tuple[Path, Result]]:
    """Yield the results in a folder that were measured on this machine, the newest first."""
    here = machine()
    for path, result in results_in(folder):
        if _same(result.machine, here, _MACHINE):
            yield path, result


def is_of_engine(result: Result, pipeline: Pipeline) -> bool:
    """Return whether a result is of `bench engine` with a model's weights and with like engine arguments."""
    settings = result.settings
    if result.kind != "engine" or result.dummy or settings.get("model") != pipeline.profile.name:
        return False
    if ("adapter_sha256" in settings) != (pipeline.adapter is not None):  # its speed is not that of another's
        return False
    arguments = settings.get("engine_args")
    same = isinstance(arguments, Mapping) and _same(arguments, numeric(pipeline.config.engine_args), _ARGUMENTS)
    return same and settings.get("weights_sha256") == pipeline.weights.digest


def _same(one: Mapping[str, Any], other: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(one.get(name) == other.get(name) for name in names)
