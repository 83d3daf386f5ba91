"""`localemp generate --ray` on a cluster of two nodes on this machine, with scripted engines."""

import asyncio
import json
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from patience import patience, wait_until
from processes import command_line

from localemp.data.sources import load_dialogues
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_actor import EngineActor
from localemp.runs.run import read_manifest, read_records

pytestmark = pytest.mark.cluster

IDS = [f"d{number}" for number in range(40)]


@pytest.fixture(scope="module")
def address():
    """Two nodes with room for one engine each."""
    pytest.importorskip("ray", reason="clusters are tested with Ray: pip install 'localemp[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # a token that lies in this person's home is for other clusters
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def words(tmp_path):
    """A command over forty dialogues, each with a reply of its own; they take `seconds`."""

    def write(seconds=0.0, **extra):
        talks = [{"id": name, "turns": [f"Story number {name}."], "emotion": "sad"} for name in IDS]
        (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
        replies = [{"match": f"number {name}.", "reply": f"Oh, {name}.", "seconds": seconds} for name in IDS]
        replies = [entry | extra.get(name, {}) for name, entry in zip(IDS, replies, strict=True)]
        (tmp_path / "script.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in replies))
        # Names of files are relative: the actors have to find them from where the command was given.
        return "generate", "--script", "script.jsonl", "--data", "talks.jsonl", "--concurrency", 4

    return write


def lines_of(run):
    path = run / "responses.jsonl"
    return [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def wait_for_lines(process, run, count):
    wait_until(lambda: len(lines_of(run)) >= count, 100, process)


def without_times(run):
    records = sorted(read_records(run), key=lambda record: record["id"])
    for record in records:
        for stage in record.get("stages", ()):
            stage["seconds"] = None
    return records


def test_a_cluster_writes_the_run_that_one_machine_writes(localemp, words, address, tmp_path):
    failing = words(d7={"error": "engine", "reply": "too hot"})
    two_stage = (*failing, "--strategy", "few-shot+two-stage", "--shots", 2)
    here = localemp(*two_stage, "--out", "here")
    localemp(*two_stage, "--out", "there", "--limit", 3)
    there = localemp(*two_stage, "--out", "there", "--ray", address)
    assert (here.returncode, there.returncode) == (1, 1)
    assert "39 replies, 1 failed" in there.stdout
    assert "resuming: 3 of 40 replies already in there" in there.stderr
    assert "Starting 2 engines on Ray" in there.stderr
    assert len(there.stderr.splitlines()) < 8, "what Ray says is in its log"
    assert without_times(tmp_path / "here") == without_times(tmp_path / "there")
    assert len(lines_of(tmp_path / "there")) == 40
    alone, cluster = read_manifest(tmp_path / "here"), read_manifest(tmp_path / "there")
    assert alone["settings"] == cluster["settings"]
    session = cluster["sessions"][-1]
    assert (session["ray_address"], session["actors"], session["engine"]) == (address, 2, "scripted")
    assert 1 <= len(session["engines"]) <= 2, "whichever had something to do"
    assert (tmp_path / "there" / "ray.log").exists()


def test_an_actor_that_is_killed_loses_and_doubles_nothing(localemp, words, address, tmp_path):
    process = localemp.start(*words(seconds=1.0), "--out", "run", "--ray", address)
    wait_for_lines(process, tmp_path / "run", 4)
    family = psutil.Process().children(recursive=True)
    actors = [child for child in family if "ray::MapWorker" in " ".join(command_line(child))]
    actors[0].kill()
    before = len(lines_of(tmp_path / "run"))
    _, error = process.communicate(timeout=patience(100))
    assert process.returncode == 0, error
    assert before < 40
    assert sorted(lines_of(tmp_path / "run")) == sorted(IDS)


def test_stopped_on_a_cluster_it_goes_on_without_one(localemp, words, address, tmp_path):
    process = localemp.start(*words(seconds=1.0), "--out", "run", "--ray", address)
    wait_for_lines(process, tmp_path / "run", 4)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=patience(60))
    before = lines_of(tmp_path / "run")
    assert process.returncode == 130
    assert f"stopped: {len(before)} of 40 replies" in error
    assert "Traceback" not in error
    assert localemp(*words(), "--out", "run").returncode == 0
    assert lines_of(tmp_path / "run")[: len(before)] == before
    assert sorted(lines_of(tmp_path / "run")) == sorted(IDS)


def test_what_stops_an_actor_reaches_a_person_as_one_line(localemp, words, address, tmp_path):
    fatal = words(seconds=0.2, d30={"error": "fatal", "reply": "the card fell off"})
    done = localemp(*fatal, "--out", "run", "--ray", address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("the card fell off")
    assert done.stderr.count("error:") == 1
    assert f"stopped: {len(lines_of(tmp_path / 'run'))} of 40 replies" in done.stderr


async def test_an_actor_refuses_to_answer_otherwise_than_the_run_says(words, tmp_path, monkeypatch):
    words()
    monkeypatch.chdir(tmp_path)
    dialogues = load_dialogues("talks.jsonl")
    config = RunConfig(script=tmp_path / "script.jsonl", data="talks.jsonl")
    settings = Pipeline(config).settings(dialogues, "test")

    async def stopped(config, settings):
        actor = await asyncio.to_thread(EngineActor, config, settings, tmp_path, dialogues[0])
        return pickle.loads((await actor({"share": pickle.dumps(dialogues[:2])}))["answers"]).stopped

    assert await stopped(config, settings) is None
    other = await stopped(config, settings | {"prompt_sha256": "of another version"})
    assert "prompt_sha256" in other.message
    missing = await stopped(replace(config, script=tmp_path / "nothing.jsonl"), settings)
    assert "nothing.jsonl" in missing.message
    assert missing.exit_code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ray", "127.0.0.1:1"), "no response"),
        (("--ray", "ray://127.0.0.1:1"), "no response"),
        (("--ray", "somewhere"), "is not an address"),
        (("--actors", 2), "--ray ADDRESS"),
        (("--ray", "auto", "--model", "gpt-4", "--base-url", "http://127.0.0.1:1/v1"), "a server answers"),
    ],
)
def test_no_cluster_is_told_in_one_line(localemp, options, told):
    pytest.importorskip("ray", reason="clusters are tested with Ray: pip install 'localemp[ray]'")
    begun = time.monotonic()
    done = localemp("generate", *options, "--out", "run")
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stderr.count("error:") == 1
    assert time.monotonic() - begun < patience(30)


def test_without_ray_it_says_what_to_install(words, tmp_path):
    program = "import sys; sys.modules['ray'] = None; from localemp.cli.main import main; main()"
    command = [sys.executable, "-c", program, *map(str, words()), "--out", "run", "--ray", "auto"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'localemp[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
