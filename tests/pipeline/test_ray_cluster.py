"""`localemp generate --ray` on a cluster of two nodes on this machine, with scripted engines."""

import asyncio
import json
import pickle
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from patience import patience, wait_until
from processes import command_line
from tiny_encoder import save_tiny_encoder

from localemp.data.sources import load_dialogues
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_actor import ActorRow, EngineActor, Share
from localemp.pipeline.ray_driver import answer_batches_on_cluster
from localemp.pipeline.schedule import answer_batches
from localemp.runs.run import read_manifest, read_records
from localemp.utils.extras import install_command

pytestmark = pytest.mark.cluster

IDS = [f"d{number}" for number in range(40)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Two nodes with room for one engine each, and a cache of their own."""
    pytest.importorskip("ray", reason="clusters are tested with Ray: pip install 'localemp[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # a token that lies in this person's home is for other clusters
        patch.setenv("LOCALEMP_CACHE", str(tmp_path_factory.mktemp("cache")))
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
            stage["seconds"] = stage["asked_by"] = None
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


@pytest.fixture
def rows_of(words, tmp_path, monkeypatch):
    """Opened batches of these strategies, as an experiment has them."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:

        def opened(*strategies, place="rows", seconds=0.0, **extra):
            words(seconds, **({"d7": {"error": "engine", "reply": "too hot"}} | extra))
            first = Pipeline(RunConfig(script=Path("script.jsonl"), data="talks.jsonl", concurrency=4))
            batches = [
                Batch(first.vary(name), folder=tmp_path / place / name, name=f"the row {name}") for name in strategies
            ]
            for batch in batches:
                stack.enter_context(batch.open())
            return batches

        yield opened


STRATEGIES = "zero-shot", "few-shot+two-stage", "few-shot"


@pytest.mark.parametrize("actors", [1, 2])
def test_what_was_cut_is_counted_where_it_was_looked_up(localemp, words, address, tmp_path, actors):
    save_tiny_encoder(tmp_path, tmp_path / "encoder")
    command = words()
    talks = [json.loads(line) for line in (tmp_path / "talks.jsonl").read_text("utf-8").splitlines()]
    for talk in talks[:3]:
        talk["turns"] = ["cat " * 50, "oh", *talk["turns"]]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    pool = [{"id": "p", "turns": ["my dog died"], "reference": "I am sorry."}]
    pool += [{"id": "long", "turns": ["cat " * 50], "reference": "Oh."}]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in pool))
    similar = ("--strategy", "similar", "--pool", "pool.jsonl", "--shots", 1, "--encoder", tmp_path / "encoder")
    done = localemp(*command, *similar, "--out", "run", "--ray", address, "--actors", actors)
    assert done.returncode == 0, done.stderr
    notes = read_manifest(tmp_path / "run")["sessions"][-1]["notes"]
    counted = [re.match(r"similar: (\d+) of (\d+) dialogues have more than the 16 tokens", note) for note in notes]
    engines = read_manifest(tmp_path / "run")["sessions"][-1]["engines"]
    assert sum(int(note[1]) for note in counted if note) == 3
    assert sum(int(note[2]) for note in counted if note) <= 40, "the dialogue that is tried first is counted once"
    assert [note for note in notes if "1 of 2 training dialogues" in note] == [notes[-1]], "what all say is said once"
    assert ("40 dialogues" in notes[0]) == (len(engines) == 1)
    assert all(note in done.stderr for note in notes)


def test_an_engine_answers_all_rows(rows_of, address, tmp_path):
    alone, batches = rows_of(*STRATEGIES, place="alone"), rows_of(*STRATEGIES)
    asyncio.run(answer_batches(alone, tmp_path / "engine.log"))
    shown = []
    answer_batches_on_cluster(batches, address, 2, tmp_path / "ray.log", shown.append)
    assert all(
        batch.tally.calls + batch.tally.shared == batch.tally.done * stages
        for stages, batch in zip((1, 2, 1), batches, strict=True)
    )
    for strategy, batch in zip(STRATEGIES, batches, strict=True):
        assert without_times(batch.folder) == without_times(tmp_path / "alone" / strategy)
        assert sorted(lines_of(batch.folder)) == sorted(IDS)
        assert (batch.error, batch.tally.done, batch.tally.failed) == (None, 39, 1)
        session = read_manifest(batch.folder)["sessions"][-1]
        assert (session["actors"], session["dialogues"]) == (2, 40)
    engines = {who for batch in batches for who in read_manifest(batch.folder)["sessions"][-1]["engines"]}
    assert len(engines) <= 2, "one engine an actor, however many rows"
    assert {step.row for step in shown if step.task == "Answering"} == {batch.name for batch in batches}


def test_an_engine_is_asked_the_same_question_once(rows_of, address, tmp_path):
    first, again = rows_of("zero-shot"), rows_of("zero-shot", place="again")
    again[0].name = "again"
    answer_batches_on_cluster([*first, *again], address, 1, tmp_path / "ray.log")
    assert sum(batch.tally.shared for batch in (*first, *again)) == 39
    assert sum(batch.tally.calls for batch in (*first, *again)) == 39
    assert [record["reply"] for record in read_records(again[0].folder) if record["id"] == "d3"] == ["Oh, d3."]


def test_a_row_that_cannot_be_answered_or_written_stops_no_other(rows_of, address, tmp_path):
    batches = rows_of("zero-shot", "few-shot+two-stage", "few-shot", "two-stage")
    batches[1].settings["prompt_sha256"] = "of another version"
    batches[2].opened.close()
    answer_batches_on_cluster(batches, address, 2, tmp_path / "ray.log")
    assert [batch.error is None for batch in batches] == [True, False, False, True]
    assert batches[1].error.message.startswith("the row few-shot+two-stage: a node of the cluster has other settings")
    assert "prompt_sha256" in batches[1].error.message
    assert str(batches[2].folder) in batches[2].error.message
    assert [len(lines_of(batch.folder)) for batch in batches] == [40, 0, 0, 40]


def test_a_fatal_error_keeps_what_every_row_has(rows_of, words, address, tmp_path):
    batches = rows_of("zero-shot", "two-stage", "few-shot", d30={"error": "fatal", "reply": "the card fell off"})
    batches[2].pending[:] = batches[2].pending[:2]
    answer_batches_on_cluster(batches, address, 2, tmp_path / "ray.log")
    for batch in batches:
        assert len(lines_of(batch.folder)) == len(set(lines_of(batch.folder))) <= 39
    told = [batch.error and batch.error.message for batch in batches]
    assert told[:2] == ["the card fell off"] * 2
    assert (told[2] is None) == (len(lines_of(batches[2].folder)) == 2), "a row that was finished is finished"


def test_an_experiment_on_a_cluster_is_the_one_of_one_machine(localemp, words, address, tmp_path):
    words(d7={"error": "engine", "reply": "too hot"})
    rows = "".join(f'[[rows]]\nname = "{name}"\nstrategy = "{name}"\n' for name in STRATEGIES)
    (tmp_path / "mine.toml").write_text(f'data = "talks.jsonl"\n{rows}\n[after]\nscore = false\nreport = false\n')
    command = ("experiment", "mine.toml", "--script", "script.jsonl", "--concurrency", 4)
    here = localemp(*command, "--out", "here")
    there = localemp(*command, "--out", "there", "--ray", address, "--actors", 2)
    assert (here.returncode, there.returncode) == (1, 1), there.stderr
    runs = sorted(path.name for path in (tmp_path / "here" / "rows").iterdir())
    assert runs == sorted(path.name for path in (tmp_path / "there" / "rows").iterdir())
    assert len(runs) == 3
    for run in runs:
        alone, cluster = (tmp_path / place / "rows" / run for place in ("here", "there"))
        assert without_times(alone) == without_times(cluster)
        assert read_manifest(cluster)["sessions"][-1]["ray_address"] == address
    assert (tmp_path / "there" / "ray.log").exists()


async def share_of(actor, row, dialogues):
    return pickle.loads((await actor({"share": pickle.dumps(Share(row, dialogues))}))["answers"])


async def test_an_actor_refuses_to_answer_otherwise_than_the_run_says(words, tmp_path, monkeypatch):
    words()
    monkeypatch.chdir(tmp_path)
    dialogues = load_dialogues("talks.jsonl")
    config = RunConfig(script=tmp_path / "script.jsonl", data="talks.jsonl")
    settings = Pipeline(config).settings(dialogues, "test")

    async def actor_of(*rows):
        made_from = [ActorRow("", *row, dialogues[0]) for row in rows]
        return await asyncio.to_thread(EngineActor, made_from, tmp_path)

    other = config, settings | {"prompt_sha256": "of another version"}
    missing = replace(config, data="nothing.jsonl", strategy="few-shot"), settings
    actor = await actor_of((config, settings), other, missing)
    results = [await share_of(actor, row, dialogues[:2]) for row in range(3)]
    assert (results[0].failed, len(results[0].records)) == (None, 2)
    assert "prompt_sha256" in results[1].failed.message
    assert "nothing.jsonl" in results[2].failed.message
    assert results[2].failed.exit_code == 2
    assert [result.stopped for result in results] == [None] * 3
    alone = await share_of(await actor_of(other), 0, dialogues[:2])
    assert "prompt_sha256" in alone.failed.message, "no engine is started for nothing"
    silent = await actor_of((replace(config, script=tmp_path / "nothing.jsonl"), settings))
    stopped = (await share_of(silent, 0, dialogues[:2])).stopped
    assert "nothing.jsonl" in stopped.message
    assert stopped.exit_code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ray", "127.0.0.1:1"), "the connection was refused"),
        (("--ray", "ray://127.0.0.1:1"), "error: --ray ray://127.0.0.1:1: "),
        (("--ray", "somewhere"), "is not an address"),
        (("--actors", 2), "--actors does nothing without --ray"),
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
    assert install_command("ray") in done.stderr
    assert "Traceback" not in done.stderr
