"""How many compiled kernels torch keeps, in this process and in those that it starts."""

import os
import subprocess
import sys

import pytest

LIMITS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
PROGRAM = """
import os, subprocess, sys
import localemp.retrieval.encoder
from localemp.utils.kernels import usual_kernels
names = sys.argv[1:]
child = [sys.executable, "-c", "import os, sys; print([os.environ.get(name) for name in sys.argv[1:]])", *names]
print([os.environ.get(name) for name in names], flush=True)
with usual_kernels():
    subprocess.run(child, check=True)
print([os.environ.get(name) for name in names])
"""


@pytest.mark.parametrize(
    ("given", "here", "child"),
    [({}, ["64", "64"], [None, None]), ({"LRU_CACHE_CAPACITY": "9"}, ["64", "9"], [None, "9"])],
    ids=["default", "the user's"],
)
def test_kernels_are_few_here_and_the_engine_keeps_the_usual_number(
    given: dict[str, str], here: list[str | None], child: list[str | None]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS} | given
    command = [sys.executable, "-c", PROGRAM, *LIMITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-3:] == [str(here), str(child), str(here)]
