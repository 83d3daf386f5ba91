"""What NVIDIA's data sheets say of GPUs, per GPU: peaks that benchmarks are compared with, not measured by us.

Matrix rates are dense. The data sheets give those with sparsity, which are twice as high: for H100 SXM and H200 SXM
3,958 TFLOP/s in FP8 and 1,979 in bfloat16.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataSheet:
    """The peaks of one GPU.

    Attributes:
        name: As in `SHEETS`.
        bfloat16, fp8: Dense matrix rates, FLOP/s.
        bandwidth: Of the memory, bytes/s.
        memory: Bytes.
    """

    name: str
    bfloat16: float
    fp8: float
    bandwidth: float
    memory: float


SHEETS = {
    sheet.name: sheet
    for sheet in (
        DataSheet("H100", bfloat16=989e12, fp8=1979e12, bandwidth=3.35e12, memory=80e9),
        DataSheet("H200", bfloat16=989e12, fp8=1979e12, bandwidth=4.8e12, memory=141e9),
    )
}
# As nvidia-smi calls the SXM models; those on cards (PCIe, NVL) have other peaks.
_DEVICES = {"NVIDIA H100 80GB HBM3": "H100", "NVIDIA H200": "H200"}


def sheet_of(device: str) -> DataSheet | None:
    """Return the data sheet of a GPU.

    Args:
        device: What `localemp.utils.machine.gpu` returns; of several GPUs the first counts.
    """
    name = _DEVICES.get(device.partition(";")[0].partition(",")[0].strip())
    return None if name is None else SHEETS[name]
