"""How near an engine is to its hardware: what its work must compute and read, over what the device was measured to do.

MFU is the share of the matrix rate that prefill attains (Chowdhery et al. 2022, appendix B, without recomputation);
MBU is the share of the copy bandwidth that decode attains, of the bytes that a step must read at least.
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

# Roofs whose repeats differ by a smaller ratio are taken for one.
_STEADY = 1.01


@dataclass(frozen=True, slots=True)
class Work:
    """Something that was computed: its floating-point operations, the bytes that it must read, and how long it took."""

    operations: float
    bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """A model's arithmetic on a device.

    Attributes:
        shape: None where the model's sizes cannot be counted.
        bytes_per_s, flops_per_s: What one device does at most; 0 where it was not measured.
        devices: That share the work.
        note: Why there is no roofline, or what is approximate in it.
        hardware: The measurement with all its repeats; `bytes_per_s` and `flops_per_s` are their medians.
        replicas: Of the weights, each of which answers a part of a batch.
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
        """The roofline of a folder's model as vLLM runs it with these arguments."""
        shape = read_shape(folder, engine_args)
        notes = [why_uncounted(folder, engine_args) if shape is None else shape.note]
        if engine_args.get("speculative_config"):
            notes.append("a decode step is taken for one token of each text, and speculative decoding makes several")
        if shape is not None and shape.matrix_bytes < shape.dtype_bytes:
            notes.append("weights are quantised: what computes in fewer bits may pass the matrix rate of its dtype")
        copied = computed = 0.0
        if hardware is None:
            notes.append("what this device does at most was not measured")
        else:
            copied, computed = statistics.median(hardware.copy_gb_per_s), statistics.median(hardware.matrix_tflops)
        note = "; ".join(filter(None, notes))
        replicas = int(engine_args.get("data_parallel_size") or 1)
        return cls(shape, copied * 1e9, computed * 1e12, max(1, devices_used(engine_args)), note, hardware, replicas)

    def prefill(self, first: Sequence[Replay]) -> Work | None:
        """Batches that were answered by one token each: the prompt tokens that no cache had, and one set of logits.

        Weights count as read once for a batch, also where vLLM computed it in several portions.
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
        """One step that took so many seconds."""
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
        """Its share of the matrix rate, where both are known."""
        if work is None or not self.flops_per_s:
            return {}
        return {"mfu": work.operations / work.seconds / (self.devices * self.flops_per_s)}

    def mbu(self, work: Work | None) -> dict[str, float]:
        """Its share of the copy bandwidth, where both are known."""
        if work is None or not self.bytes_per_s:
            return {}
        return {"mbu": work.bytes / work.seconds / (self.devices * self.bytes_per_s)}

    def between(self, repeats: Sequence[Mapping[str, float]]) -> list[str]:
        """Where MFU and MBU lie if the roofs lie anywhere in what was measured; nothing where that is one place."""
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
                    f"the roof was measured from {low:.4g} to {high:.4g} {unit}, so {name.upper()} is between "
                    f"{ends[0]:.1%} and {ends[1]:.1%}"
                )
        return said

    def place(self, work: Work | None) -> dict[str, float]:
        """Where it lies under the roof of one device."""
        if work is None:
            return {}
        attained = work.operations / work.seconds / self.devices / 1e12
        return {"flops_per_byte": work.operations / work.bytes, "tflops": attained}


def hardware_point(hardware: "Hardware") -> Point:
    """What this device does at most, as measured."""
    return Point(
        part="hardware",
        labels={"device": hardware.device, "dtype": hardware.dtype},
        values={"copy_gb_per_s": hardware.copy_gb_per_s, "matrix_tflops": hardware.matrix_tflops},
    )


def unlike_threads(hardware: "Hardware | None", threads: int | None) -> list[str]:
    """What to say where the roofs were measured with other threads than the engine has."""
    measured = None if hardware is None else hardware.settings.get("threads")
    if measured is None or threads is None or measured == threads:
        return []
    return [f"The roofs were measured with {measured} threads, the engine computes with {threads}."]


def devices_used(engine_args: Mapping[str, Any]) -> int:
    """How many GPUs an engine with these arguments computes on; 0 where there are none."""
    if gpu() == "none":
        return 0
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    return math.prod(int(engine_args.get(name) or 1) for name in sizes)
