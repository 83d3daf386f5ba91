"""`localemp generate` and `respond` with the real vLLM and the embedded model; each test starts its own."""

import json

import psutil
import pytest
from patience import patience, wait_until

from localemp.data.sources import load_dialogues
from localemp.engines.vllm.determinism import BATCH_INVARIANT, ONE_AT_A_TIME
from localemp.errors import FatalEngineError
from localemp.runs.run import read_manifest

pytestmark = pytest.mark.engine


def test_too_little_memory_for_the_kv_cache_says_three_numbers(localemp):
    words = ("--engine-arg", "max_model_len=8192", "--engine-arg", "kv_cache_memory_bytes=20000000")
    done = localemp("generate", "--limit", 1, *words, alone=True)
    assert done.returncode == FatalEngineError.exit_code
    assert "a context of 8192 tokens needs 0.1" in done.stderr, done.stderr
    assert "0.0" in done.stderr
    assert "--engine-arg max_model_len" in done.stderr


def test_kill_loses_no_reply_and_leaves_no_process(localemp, tmp_path):
    words = ("generate", "--out", "run", "--strategy", "two-stage", "--concurrency", 2, "--show", 0)
    process = localemp.start(*words)
    lines = tmp_path / "run" / "responses.jsonl"
    wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") >= 2, 200, process)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    before = lines.read_bytes().splitlines()
    assert 2 <= len(before) < 12
    _, alive = psutil.wait_procs(started, timeout=patience(60))
    assert not alive, "vLLM's processes end with the one that started them"
    done = localemp(*words)
    assert done.returncode == 0, done.stderr
    after = [json.loads(line)["id"] for line in lines.read_bytes().splitlines()]
    assert sorted(after) == sorted(dialogue.id for dialogue in load_dialogues("samples"))


def test_a_deterministic_run_says_how_and_can_be_repeated(localemp, tmp_path):
    words = ("--limit", 4, "--max-tokens", 16, "--engine-arg", "kv_cache_memory_bytes=1073741824")
    done = localemp("generate", "--deterministic", "--out", "run", *words, alone=True)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "run")
    how = manifest["sessions"][0]["deterministic"]
    assert (manifest["settings"]["deterministic"], how in (BATCH_INVARIANT, ONE_AT_A_TIME)) == (True, True)
    assert "deterministic: " in done.stderr
    words = ("--batch-sizes", "1,4", "--engine-arg", "kv_cache_memory_bytes=1073741824")
    done = localemp("runs", "verify", "run", *words, alone=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"4 of 4 replies equal at batch sizes 1 and 4 (deterministic: {how}; vLLM " in done.stdout
