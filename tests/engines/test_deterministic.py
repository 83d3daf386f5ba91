"""`deterministic`: which engines can be asked for it, what contradicts it, what is recorded, which runs it parts."""

import json
import os

import pytest
from fake_server import FakeServer

from localemp import estimate
from localemp.engines.vllm.determinism import BATCH_INVARIANT, ONE_AT_A_TIME, Determinism, determinism
from localemp.errors import OptionError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import read_manifest
from localemp.serving.vllm.command import prepare
from localemp.utils.machine import gpu

KEY = {"OPENAI_API_KEY": "a-key-for-tests"}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"reply": "I am here."}) + "\n")
    return path


def test_runs_with_and_without_it_are_different_runs_and_share_no_engine(localemp, tmp_path, script):
    for words in ((), ("--deterministic",)):
        done = localemp("generate", "--script", script, "--limit", 2, *words)
        assert done.returncode == 0, done.stderr
    with_it, without = sorted((read_manifest(path) for path in (tmp_path / "runs").iterdir()), key=str)
    settings = [manifest["settings"] for manifest in (with_it, without)]
    assert [each.pop("deterministic", None) for each in sorted(settings, key=len)] == [None, True]
    assert settings[0] == settings[1], "a run without it records what it always did"
    keys = {Pipeline(RunConfig(script=script, deterministic=each)).engine_key for each in (False, True)}
    assert len(keys) == 2


def test_the_scripted_engine_takes_one_request_at_a_time(script):
    assert Pipeline(RunConfig(script=script, deterministic=True)).engine().concurrency == 1


def test_a_server_cannot_be_asked_for_it(localemp):
    words = ("--base-url", "http://localhost:9/v1", "--deterministic")
    done = localemp("respond", "Hello.", *words)
    assert done.returncode == OptionError.exit_code
    assert "a server decides how it batches requests" in done.stderr
    assert "localemp serve --deterministic" in done.stderr
    pipeline = Pipeline(RunConfig(base_url="http://localhost:9/v1", deterministic=True))
    for refused in (pipeline.engine, pipeline.check_options, lambda: prepare(pipeline, ["zero-shot"])):
        with pytest.raises(OptionError, match="--deterministic"):
            refused()


def test_a_plan_may_ask_for_it(localemp, tmp_path, script):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'name = "both"\nmodels = ["smollm2"]\n[[rows]]\nstrategy = "zero-shot"\ndeterministic = [false, true]\n'
    )
    done = localemp("experiment", plan, "--script", script, "--limit", 2, "--out", "both")
    assert done.returncode == 0, done.stderr
    manifests = [read_manifest(path.parent) for path in (tmp_path / "both").rglob("manifest.json")]
    assert sorted(manifest["settings"].get("deterministic", False) for manifest in manifests) == [False, True]


def test_an_estimate_counts_no_prefix_cache_and_knows_no_time(tmp_path, monkeypatch):
    if gpu() != "none":
        pytest.skip("batches and prefix cache stay on a GPU")
    monkeypatch.chdir(tmp_path)
    (row,) = estimate(model="smollm2", deterministic=True, limit=2).rows
    assert (row.cached_tokens, row.seconds) == (0, None)
    assert {"switched off by --deterministic"} < set(row.how.values())
    assert any(how.startswith("unknown with --deterministic") for how in row.how.values())


ALONE = Determinism(ONE_AT_A_TIME, "", {"max_num_seqs": 1, "enable_prefix_caching": False})


@pytest.mark.parametrize("args", [{"max_num_seqs": 8}, {"enable_prefix_caching": True}], ids=["batch", "cache"])
def test_engine_arguments_that_contradict_it_are_refused(args):
    name, value = next(iter(args.items()))
    with pytest.raises(OptionError, match=f"--engine-arg {name}={value} contradicts it \\(one at a time here\\)"):
        ALONE.check(args)
    ALONE.check({"max_num_seqs": 1, "dtype": "float32"})
    Determinism(BATCH_INVARIANT, "").check(args)


def test_the_environment_is_set_for_processes_that_start_inside_and_put_back(monkeypatch):
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    env = {"VLLM_BATCH_INVARIANT": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    with Determinism(BATCH_INVARIANT, "", env=env).in_environment():
        assert {name: os.environ[name] for name in env} == env
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"
    assert "VLLM_BATCH_INVARIANT" not in os.environ


@pytest.mark.slow  # imports vLLM
def test_this_machine_is_asked_what_it_can():
    pytest.importorskip("vllm")
    found = determinism()
    assert found.how in (BATCH_INVARIANT, ONE_AT_A_TIME)
    assert found.note.startswith("deterministic: ")
    assert bool(found.env) == (found.how == BATCH_INVARIANT) != bool(found.engine_args)


def test_a_hosted_run_is_verified_with_the_server_that_the_user_names(localemp, tmp_path):
    with FakeServer() as server:
        words = ("--base-url", server.url)
        done = localemp("generate", *words, "--model", "tiny", "--limit", 3, "--out", "run", env=KEY)
        assert done.returncode == 0, done.stderr
        assert "give it with --base-url" in localemp("runs", "verify", "run", env=KEY).stderr
        done = localemp("runs", "verify", "run", *words, "--batch-sizes", "1,2", env=KEY)
        assert done.returncode == 0, done.stderr
    assert "note: this sends 6 requests to a server; its prefix cache cannot be emptied" in done.stderr
    assert "3 of 3 replies equal at batch sizes 1 and 2 (openai)" in done.stdout
    assert "unknown" in done.stdout, "whether the prefix cache is empty"
