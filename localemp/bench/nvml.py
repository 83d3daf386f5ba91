"""NVIDIA GPUs as their driver sees them: memory and utilisation, without a CUDA context of our own."""

import os
from types import TracebackType
from typing import Any, Self

from localemp.errors import LocalempError


class NoGPUError(LocalempError):
    """There is no GPU to ask; the message says why."""


class GPUs:
    """The NVIDIA GPUs that this process may use (`CUDA_VISIBLE_DEVICES`). Use it in a `with` block.

    Every question raises NoGPUError where the driver refuses it.

    Raises:
        NoGPUError: There is none, or no driver, or nvidia-ml-py is not installed.
    """

    def __enter__(self) -> Self:
        try:
            import pynvml
        except ImportError as error:
            raise NoGPUError("nvidia-ml-py is not installed", "pip install nvidia-ml-py") from error
        self._nvml: Any = pynvml
        try:
            self._nvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NoGPUError(f"no NVIDIA driver answers: {error}") from error
        try:
            self._handles = self._ask(self._visible)
            if not self._handles:
                raise NoGPUError("there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it")
        except NoGPUError:
            self._nvml.nvmlShutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nvml.nvmlShutdown()

    def memory(self) -> list[tuple[int, int]]:
        """Bytes in use, by whomever, and bytes in all, of each GPU."""
        found = [self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle) for handle in self._handles]
        return [(int(memory.used), int(memory.total)) for memory in found]

    def utilisation(self) -> list[float]:
        """The share of the last moments in which each GPU computed anything, between 0 and 1."""
        found = [self._ask(self._nvml.nvmlDeviceGetUtilizationRates, handle) for handle in self._handles]
        return [rates.gpu / 100 for rates in found]

    def _visible(self) -> list[Any]:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        if chosen is None:
            return [self._nvml.nvmlDeviceGetHandleByIndex(row) for row in range(self._nvml.nvmlDeviceGetCount())]
        names = [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
        return [
            self._nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdecimal()
            else self._nvml.nvmlDeviceGetHandleByUUID(name)
            for name in names
        ]

    def _ask(self, question: Any, *about: Any) -> Any:
        try:
            return question(*about)
        except self._nvml.NVMLError as error:
            raise NoGPUError(f"the NVIDIA driver does not say: {error}") from error
