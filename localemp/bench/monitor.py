"""Memory and utilisation while something runs, sampled twice a second by a thread."""

import os
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from types import TracebackType
from typing import Self

import psutil

from localemp.bench.nvml import GPUs, NoGPUError
from localemp.bench.result import Series
from localemp.utils.machine import usable_cores

_PAUSE = 0.5  # seconds between samples
_FEWEST = 4  # samples for a mean
_CHILDREN_EVERY = 4  # samples: a look at all processes takes milliseconds


class ResourceMonitor:
    """Monitors the GPUs, or processes if there are none. Use it in a `with` block; read it after the block.

    GPUs are monitored as a whole, whoever uses them. The memory of processes is their private memory plus the largest
    shared part (files, shared memory), counted once. Only pages that a fork has not written to yet count twice.

    Args:
        pids: Processes to monitor, with all their present and future children; by default this process.

    Attributes:
        no_gpu: Why no GPU is monitored, or not to the end; otherwise empty.
    """

    def __init__(self, pids: Sequence[int] | None = None) -> None:
        self.no_gpu = ""
        self._what = ("GPU memory", "GPU utilisation")
        self._pids = [os.getpid()] if pids is None else list(pids)
        self._samples: list[tuple[float, list[float], list[float]]] = []  # seconds, GiB and utilisation of each device
        self._end, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="localemp-watch")

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def series(self) -> list[Series]:
        """Return memory in GiB and utilisation in percent (of all active GPUs, or of all cores) over time."""
        seconds, memory, utilisation = self._together()
        seconds = [round(at, 3) for at in seconds]
        about = zip(self._what, ("GiB", "%"), (memory, [100 * value for value in utilisation]), strict=True)
        return [
            Series(title=title, unit=unit, seconds=seconds, values=[round(value, 3) for value in values])
            for title, unit, values in about
        ]

    def values(self) -> dict[str, float]:
        """Return peak memory and mean utilisation (0 to 1), by the names of `localemp.bench.quantities`.

        With few samples there is no utilisation: a driver's value covers mostly the time before.
        """
        seconds, memory, utilisation = self._together()
        if not memory:
            return {}
        if len(memory) < _FEWEST:
            return {"peak_memory_gib": max(memory)}
        # Each value is of the time before it, and the last one comes when the block ends.
        passed = [now - before for before, now in pairwise([0.0, *seconds])]
        mean = sum(map(mul, utilisation, passed)) / sum(passed)
        return {"peak_memory_gib": max(memory), "utilisation": mean}

    def _together(self) -> tuple[list[float], list[float], list[float]]:
        """Seconds, sum of memory and mean utilisation, over the devices that were active at any time."""
        devices = range(len(self._samples[0][1])) if self._samples else range(0)
        busy = [row for row in devices if any(sample[2][row] for sample in self._samples)] or list(devices)
        return (
            [seconds for seconds, _, _ in self._samples],
            [sum(memory[row] for row in busy) for _, memory, _ in self._samples],
            [sum(utilisation[row] for row in busy) / len(busy) for _, _, utilisation in self._samples],
        )

    def _watch(self) -> None:
        try:
            with GPUs() as gpus:
                for ask in (gpus.memory, gpus.utilisation):
                    ask()  # a GPU whose driver does not answer cannot be watched
                while self._next():
                    self._add([used / 2**30 for used, _ in gpus.memory()], gpus.utilisation())
        except NoGPUError as error:
            self.no_gpu = error.message
            if not self._samples:
                self._watch_processes()

    def _watch_processes(self) -> None:
        self._what, processes = ("memory", "processor"), _Processes(self._pids)
        while self._next():
            memory, share = processes.look()
            self._add([memory / 2**30], [share])

    def _add(self, memory: list[float], utilisation: list[float]) -> None:
        self._samples.append((time.perf_counter() - self._started, memory, utilisation))

    def _next(self) -> bool:
        """Wait for the next sample; the last one is taken at the end of the block."""
        if self._ended:
            return False
        self._ended = self._end.wait(_PAUSE)
        return True


class _Processes:
    """Memory and processor time of processes and all their children."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        self._family: list[psutil.Process] = []
        self._looks = 0
        self._busy: dict[psutil.Process, float] = {}
        self._cores = usable_cores()
        self._begun = self._time = time.time()
        self.look()

    def look(self) -> tuple[float, float]:
        """Return bytes in use, and the share of all cores since the last call."""
        if self._looks % _CHILDREN_EVERY == 0:
            self._family = self._gather()
        self._looks += 1
        own, shared, busy = 0, 0, {}
        for process in self._family:
            try:
                with process.oneshot():
                    memory, times = process.memory_info(), process.cpu_times()
                    born = process.create_time()
            except psutil.Error:  # it has ended
                continue
            common = getattr(memory, "shared", 0)
            own, shared = own + memory.rss - common, max(shared, common)
            busy[process] = times.user + times.system
            if process not in self._busy and born < self._begun:  # what it did before is not counted
                self._busy[process] = busy[process]
        used = sum(seconds - self._busy.get(process, 0.0) for process, seconds in busy.items())
        now = time.time()
        passed, self._time, self._busy = now - self._time, now, busy
        return own + shared, min(used / (self._cores * max(passed, 1e-3)), 1.0)

    def _gather(self) -> list[psutil.Process]:
        family: dict[int, psutil.Process] = {}
        for root in self._roots:
            try:
                family |= {process.pid: process for process in (root, *root.children(recursive=True))}
            except psutil.Error:
                continue
        return list(family.values())
