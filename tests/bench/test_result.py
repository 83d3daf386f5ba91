"""Results as files: what they keep, and what they do not."""

import json

import pytest

from localemp.bench.result import Point, Recording, read_result
from localemp.bench.tune import command_lines, resume_trials
from localemp.errors import DataError, EngineError

SECRET = {"engine_args": {"hf_token": "SECRET", "max_num_seqs": 4}, "engine_options": ("--api-key", "SECRET")}
COMMAND = ["bench", "engine", "--engine-arg", "hf_token=SECRET", "--url", "http://me:SECRET@host/v1"]


def test_no_secret_is_kept(tmp_path):
    path = tmp_path / "r.json"
    recording = Recording(path, "engine", "m, http://me:SECRET@host/v1", SECRET, command=COMMAND)
    with pytest.raises(EngineError), recording:
        recording.add(Point(part="x", values={"replies_per_s": (1.0,)}))
        raise EngineError("refused: Authorization: Bearer SECRET")
    assert "SECRET" not in path.read_text()
    kept = read_result(path)
    assert kept.settings["engine_args"] == {"hf_token": "***", "max_num_seqs": 4}
    assert kept.command == "localemp bench engine --engine-arg 'hf_token=***' --url 'http://***@host/v1'"


def test_what_older_versions_kept_is_not_shown(tmp_path):
    path = tmp_path / "r.json"
    old = {"kind": "tune", "title": "m", "command": "localemp tune --engine-arg hf_token=SECRET", "settings": SECRET}
    path.write_text(json.dumps(old))
    assert "SECRET" not in read_result(path).model_dump_json()


def test_another_key_makes_no_other_search(tmp_path):
    path = tmp_path / "r.json"
    with Recording(path, "tune", "m", {"engine_args": {"hf_token": "FIRST"}}, command=[]) as recording:
        recording.add(Point(part="trials", labels={"settings": "to begin with"}, values={"replies_per_s": (1.0,)}))
    again = Recording(path, "tune", "m", {"engine_args": {"hf_token": "SECOND"}}, command=[])
    assert resume_trials(again)


def test_suggested_commands_show_no_secret():
    generate, serve = command_lines({"hf_token": "SECRET", "max_num_seqs": 8}, ["--model", "m"], ["--model", "m"])
    assert generate == "localemp generate --model m --engine-arg 'hf_token=***' --engine-arg max_num_seqs=8"
    assert serve == "localemp serve --model m -- --hf-token '***' --max-num-seqs 8"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"kind": "engine", "title": "m", "settings": {"a": NaN}}', "out of range"),
        ('{"kind": "engine", "title": "m",\n "settings": {"a": ' + "9" * 5_000 + "}}", "too many digits"),
        ('{"kind": "engine", "title": "m", "settings": {"a": ' + "[" * 200 + "]" * 200 + "}}", "nested more than"),
        ('{"kind": "engine", "title": "\\ud83d"}', "an unpaired surrogate"),
        ('{"kind": "engine", "title": "m", "series": [{"title": "t", "unit": "s", "seconds": [1e999], "values": [1]}]}',
         "should be a finite number"),
        ('{"kind": "engine", "title": "m",\n\n}', "line 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_an_error(tmp_path, content, said):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=said):
        read_result(tmp_path / "r.json")


def test_a_file_of_0_1_0_is_read_and_its_at_once_is_the_concurrency(tmp_path):
    old = {
        "kind": "engine",
        "title": "smollm2, zero-shot",
        "finished": True,
        "points": [
            {"part": "batch size", "labels": {"strategy": "zero-shot", "at once": 16}, "figures": {"mbu": [0.6, 0.7]}},
        ],
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old), "utf-8")
    (point,) = read_result(path).points
    assert point.labels == {"strategy": "zero-shot", "concurrency": 16}
    assert point.values == {"mbu": (0.6, 0.7)}
    assert point == Point(part="batch size", labels=point.labels, values={"mbu": (0.6, 0.7)})
    with Recording(tmp_path / "new.json", "engine", "smollm2, zero-shot", {}) as recording:
        recording.add(point)
    (kept,) = json.loads((tmp_path / "new.json").read_text("utf-8"))["points"]
    assert kept == old["points"][0] | {"labels": {"strategy": "zero-shot", "concurrency": 16}, "note": ""}
