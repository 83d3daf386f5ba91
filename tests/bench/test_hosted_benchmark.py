"""benchmarks/hosted.py, small: it compares localemp with what the service has logged and charged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from repository import REPOSITORY


def measured(folder: Path, *options: str) -> dict[str, Any]:
    out = folder / "result.json"
    command = [sys.executable, "benchmarks/hosted.py", *options, "--out", str(out)]
    told = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(command, cwd=REPOSITORY, env=told, capture_output=True, text=True, timeout=patience(300))
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


def test_requests_with_faults_are_answered_once(tmp_path):
    result = measured(
        tmp_path, "--only", "requests", "--case", "requests", "--requests", "40", "--latency", "0", "--share", "0.02"
    )["requests"]["requests"]
    assert (result["answered"], result["failed"], result["answered_more_often"]) == (40, [], 0)
    assert result["attempts"] >= 40 and result["over_the_limit"] == 0
    assert result["billed"] == pytest.approx(result["dollars"] + result["billed_for_cut_answers"])
    assert sum(row["attempts"] for row in result["by_time"]) == pytest.approx(result["attempts"] / 10)


@pytest.mark.slow
def test_batches_cost_what_is_billed(tmp_path):
    for result in measured(tmp_path, "--only", "batches", "--dialogues", "30")["batches"].values():
        assert result["failed"] == [] and result["tiers"] == ["batch"] and 0 < result["memory_mb"] < 300
        assert result["dollars"] == pytest.approx(result["billed"])
        assert result["requests"] == result["billed_requests"]
