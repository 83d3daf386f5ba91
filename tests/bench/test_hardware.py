"""This machine's own rates, measured in a process of their own."""

import pytest

from localemp.bench.hardware import measure_hardware
from localemp.errors import LocalempError


def test_this_device_is_measured():
    found = measure_hardware()
    assert found.dtype == "bfloat16"
    assert len(found.copy_gb_per_s) == len(found.matrix_tflops) == 5
    # Any machine of this century copies more than 0.5 GB a second, and none more than 20 TB.
    assert all(0.5 < rate < 20_000 for rate in found.copy_gb_per_s)
    assert all(0.001 < rate < 10_000 for rate in found.matrix_tflops)
    assert found.settings["copy_mib"] in found.settings["copy_mib_tried"]


def test_a_failure_has_its_reason():
    with pytest.raises(LocalempError, match=r"could not be measured: .*invalid choice: 'int8'"):
        measure_hardware("int8")
