"""Memory and utilisation of NVIDIA GPUs from their driver, without a CUDA context of our own."""

import os
from types import TracebackType
from typing import Any, Self

from localemp.errors import LocalempError


class NoGPUError(LocalempError):
    """No GPU can be queried; the message says why."""


class GPUs:
    """The NVIDIA GPUs that this process may use (`CUDA_VISIBLE_DEVICES`). Use it in a `with` block.

    Every query raises NoGPUError if the driver refuses it.

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
        """Return bytes in use, by all processes, and total bytes of each GPU."""
        found = [self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle) for handle in self._handles]
        return [(int(memory.used), int(memory.total)) for memory in found]

    def utilisation(self) -> list[float]:
        """Return the share of recent time in which each GPU computed anything, between 0 and 1."""
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
