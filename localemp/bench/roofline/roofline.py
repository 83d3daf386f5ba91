"""The distance of an engine from the roofline: its work against the measured peak of the device.

MFU is the share of the matrix rate that prefill attains (Chowdhery et al. 2022, appendix B, without recomputation);
MBU is the share of the copy bandwidth that decode attains, counting the bytes that a step must at least read.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localemp.bench.offline import Replay
from localemp.bench.result import Point
from localemp.bench.roofline.flops import ModelShape, read_shape, why_uncounted
from localemp.utils.machine import gpu

if TYPE_CHECKING:
    from localemp.bench.roofline.hardware import Hardware

# Peaks whose repeats differ by a smaller ratio count as one.
_STEADY = 1.01


@dataclass(frozen=True, slots=True)
class Work:
    """A computation: its floating-point operations, the bytes that it must read, and its time."""

    operations: float
    bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """A model's arithmetic on a device.

    Attributes:
        shape: The model's shape; None if its sizes cannot be counted.
        bytes_per_s, flops_per_s: The peak of one device; 0 if it was not measured.
        devices: The number of devices that share the work.
        note: Why there is no roofline, or what is approximate in it.
        hardware: The measurement with all its repeats; `bytes_per_s` and `flops_per_s` are their medians.
        replicas: Replicas of the weights, each of which answers a part of a batch.
    """

    shape: ModelShape | None
    bytes_per_s: float
    flops_per_s: float
    devices: int
    note: str
    hardware: "Hardware | None" = None
    replicas: int = 1

    @classmethod
    def of(cls, folder: Path, engine_args: Mapping[str, Any], hardware: "Hardware | None") -> "Roofline":
        """Return the roofline of a folder's model as vLLM runs it with these arguments."""
        shape = read_shape(folder, engine_args)
        notes = [why_uncounted(folder, engine_args) if shape is None else shape.note]
        if engine_args.get("speculative_config"):
            notes.append("a decode step counts as one token of each text, but speculative decoding makes several")
        if shape is not None and shape.matrix_bytes < shape.dtype_bytes:
            notes.append("weights are quantised: computing in fewer bits may exceed the matrix rate of the dtype")
        copied = computed = 0.0
        if hardware is None:
            notes.append("the peak of this device was not measured")
        else:
            copied, computed = statistics.median(hardware.copy_gb_per_s), statistics.median(hardware.matrix_tflops)
        note = "; ".join(filter(None, notes))
        replicas = int(engine_args.get("data_parallel_size") or 1)
        return cls(shape, copied * 1e9, computed * 1e12, max(1, devices_used(engine_args)), note, hardware, replicas)

    def prefill(self, first: Sequence[Replay]) -> Work | None:
        """Return the work of batches answered by one token each: uncached prompt tokens, and one set of logits.

        Weights count as read once for a batch, even if vLLM computes it in several chunks.
        """
        if self.shape is None:
            return None
        operations = read = 0.0
        for replay in first:
            for answer in replay.completions:
                prompt, cached = answer.prompt_tokens or 0, answer.cached_tokens or 0
                operations += (prompt - cached) * self.shape.flops_per_token((prompt + cached + 1) / 2, logits=False)
                operations += 2 * self.shape.head
            read += self._read(
                len(replay.completions), replay.prompt_tokens, replay.prompt_tokens - replay.cached_tokens
            )
        return Work(operations, read, sum(replay.seconds for replay in first))

    def decode(self, sequences: int, context: float, seconds: float) -> Work | None:
        """Return the work of one step of this duration."""
        if self.shape is None:
            return None
        operations = sequences * self.shape.flops_per_token(context)
        return Work(operations, self._read(sequences, sequences * context, sequences), seconds)

    def _read(self, sequences: int, context: float, computed: float) -> float:
        """Bytes that a step must read: every replica reads all weights for its part of the batch.

        Args:
            sequences: In the batch.
            context: Tokens of all sequences so far.
            computed: Tokens that go through the model.
        """
        assert self.shape is not None
        part = sequences / self.replicas
        return self.replicas * self.shape.bytes_per_step(part, context / sequences, computed / self.replicas)

    def mfu(self, work: Work | None) -> dict[str, float]:
        """Return the share of the matrix rate, if both are known."""
        if work is None or not self.flops_per_s:
            return {}
        return {"mfu": work.operations / work.seconds / (self.devices * self.flops_per_s)}

    def mbu(self, work: Work | None) -> dict[str, float]:
        """Return the share of the copy bandwidth, if both are known."""
        if work is None or not self.bytes_per_s:
            return {}
        return {"mbu": work.bytes / work.seconds / (self.devices * self.bytes_per_s)}

    def between(self, repeats: Sequence[Mapping[str, float]]) -> list[str]:
        """Return the ranges of MFU and MBU over the measured range of the peaks; empty if the repeats agree."""
        if self.hardware is None:
            return []
        said = []
        roofs = (("mfu", self.hardware.matrix_tflops, "TFLOP/s"), ("mbu", self.hardware.copy_gb_per_s, "GB/s"))
        for name, rates, unit in roofs:
            shares = [values[name] for values in repeats if name in values]
            low, middle, high = min(rates), statistics.median(rates), max(rates)
            if shares and high > _STEADY * low:
                ends = min(shares) * middle / high, max(shares) * middle / low
                said.append(
                    f"the peak was measured from {low:.4g} to {high:.4g} {unit}, so {name.upper()} is between "
                    f"{ends[0]:.1%} and {ends[1]:.1%}"
                )
        return said

    def place(self, work: Work | None) -> dict[str, float]:
        """Return its position in the roofline of one device."""
        if work is None:
            return {}
        attained = work.operations / work.seconds / self.devices / 1e12
        return {"flops_per_byte": work.operations / work.bytes, "tflops": attained}


def hardware_point(hardware: "Hardware") -> Point:
    """Return the measured peak of this device as a point."""
    return Point(
        part="hardware",
        labels={"device": hardware.device, "dtype": hardware.dtype},
        values={"copy_gb_per_s": hardware.copy_gb_per_s, "matrix_tflops": hardware.matrix_tflops},
    )


def unlike_threads(hardware: "Hardware | None", threads: int | None) -> list[str]:
    """Return a note if the peaks were measured with another number of threads than the engine's."""
    measured = None if hardware is None else hardware.settings.get("threads")
    if measured is None or threads is None or measured == threads:
        return []
    return [f"The peaks were measured with {measured} threads, the engine computes with {threads}."]


def devices_used(engine_args: Mapping[str, Any]) -> int:
    """Return the number of GPUs of an engine with these arguments; 0 if there are none."""
    if gpu() == "none":
        return 0
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    return math.prod(int(engine_args.get(name) or 1) for name in sizes)
