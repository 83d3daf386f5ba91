"""Memory and processor time of real processes."""

import subprocess
import sys
import time

import psutil
import pytest

from localemp.bench.monitor import ResourceMonitor

# A child that touches 200 MiB of its own, and another of the same with 100 MiB that both share; each is busy meanwhile.
FAMILY = """
import mmap, os, time
own = bytearray(200 * 2**20)
both = mmap.mmap(-1, 100 * 2**20)
both.write(b"x" * len(both))
child = os.fork()
if not child:
    sum(both[::4096])
end = time.perf_counter() + 2.5
while time.perf_counter() < end:
    pass
if child:
    os.waitpid(child, 0)
"""


def test_a_family_is_followed_and_shared_pages_count_once():
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as parent, ResourceMonitor([parent.pid]) as watch:
        parent.wait()
    if not watch.no_gpu:
        pytest.skip("a GPU is watched here, not processes")
    memory, processor = watch.series()
    assert (memory.title, memory.unit, processor.unit) == ("memory", "GiB", "%")
    assert len(memory.seconds) == len(memory.values) == len(processor.values) > 4
    # What the fork has not written to counts twice, what both share once.
    assert 300 / 1024 < max(memory.values) < 560 / 1024
    assert 0 < watch.values()["utilisation"] <= 1
    assert watch.values()["peak_memory_gib"] == pytest.approx(max(memory.values), abs=1e-3)


def test_children_that_come_later_are_found():
    with ResourceMonitor() as watch:
        before = psutil.Process().memory_info().rss / 2**30
        child = subprocess.Popen([sys.executable, "-c", "import time; x = b'x' * 2**29; time.sleep(3)"])
        child.wait()
    if not watch.no_gpu:
        pytest.skip("a GPU is watched here, not processes")
    assert watch.values()["peak_memory_gib"] > before * 0.5 + 0.5


def test_watching_costs_next_to_nothing():
    with ResourceMonitor() as watch:
        started = time.process_time()
        time.sleep(3)
        spent = time.process_time() - started
    assert len(watch.series()[0].values) > 3
    assert spent < 0.03 * 3  # below 0.01 on a quiet machine


def test_processes_that_are_not_there_give_nothing_to_watch():
    with ResourceMonitor([2**22 + 1]) as watch:  # above any process id
        pass
    if watch.no_gpu:
        assert watch.values() == {"peak_memory_gib": 0.0}, "a mean of one sample is none"
