"""This machine's own rates, measured in a process of their own."""

import psutil
import pytest

from localemp.bench.roofline.hardware import engine_threads, measure_hardware
from localemp.errors import LocalempError
from localemp.utils.machine import usable_cores


def test_this_device_is_measured():
    found = measure_hardware()
    assert found.dtype == "bfloat16"
    assert len(found.copy_gb_per_s) == len(found.matrix_tflops) == 5
    # Any machine of this century copies more than 0.5 GB a second, and none more than 20 TB.
    assert all(0.5 < rate < 20_000 for rate in found.copy_gb_per_s)
    assert all(0.001 < rate < 10_000 for rate in found.matrix_tflops)
    assert found.settings["copy_mib"] in found.settings["copy_mib_tried"]


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"VLLM_CPU_OMP_THREADS_BIND": "nobind"}, None),
        ({"VLLM_CPU_OMP_THREADS_BIND": "0-3,8|9"}, 5),
        ({"VLLM_CPU_NUM_OF_RESERVED_CPU": "9999"}, min(usable_cores(), psutil.cpu_count(logical=False) or 9999)),
    ],
)
def test_threads_are_as_many_as_vllm_takes(monkeypatch, variables, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert engine_threads() == threads


def test_a_failure_has_its_reason():
    with pytest.raises(LocalempError, match=r"could not be measured: .*invalid choice: 'int8'"):
        measure_hardware("int8")
