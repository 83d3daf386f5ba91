"""The order of a run's lines: that of its data, also of runs that kept no positions."""

import json

import pytest
from small_runs import dialogue, make_run

from localemp.commands.generate import generate
from localemp.data.sources import data_hash, load_dialogues
from localemp.metrics.replies import replies_of_run
from localemp.runs.order import knows_positions, numbers_of
from localemp.runs.outline import outline, whole
from localemp.runs.run import RESPONSES, Run, read_manifest, read_records


def talks(path, names):
    path.write_text("".join(json.dumps({"id": name, "turns": [f"I am {name}."]}) + "\n" for name in names))
    return str(path)


def ids(records):
    return [record["id"] for record in records]


def without_positions(run):
    """The run as an earlier version wrote it, its lines in another order."""
    lines = [json.loads(line) for line in (run / RESPONSES).read_text().splitlines()]
    for line in lines:
        del line["position"]
    (run / RESPONSES).write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda x: x["id"])))
    manifest = read_manifest(run)
    for session in manifest["sessions"]:
        del session["data"]
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"reply": "Oh."}) + "\n")
    return path


def test_lines_stand_in_the_order_of_the_data(tmp_path):
    with Run.open(make_run(tmp_path, {}), read_manifest(tmp_path)["settings"]) as run:
        run.positions = {"b": 0, "c": 1, "a": 2, "never": 3}
        for name in "acb":
            run.append({"id": name, "error": {"type": "EngineError", "message": "no"}})
        run.append({"id": "c", "reply": "Oh."})
    records = read_records(tmp_path)
    assert ids(records) == ["b", "c", "a"]
    assert [record["position"] for record in records] == numbers_of(records) == [0, 1, 2]
    assert records[1]["reply"] == "Oh.", "the newest line counts"
    lines = [json.loads(line) for line in (tmp_path / RESPONSES).read_text().splitlines()]
    assert list(lines[0]) == ["id", "position", "error"]


def test_a_run_that_kept_no_positions_has_them_from_its_data(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["z", "b", "m", "a"]
    run = generate(data=talks(tmp_path / "talks.jsonl", names), script=script).folder
    assert read_manifest(run)["sessions"][0]["data"].endswith("talks.jsonl")
    assert ids(read_records(run)) == names
    without_positions(run)
    manifest = read_manifest(run)
    manifest["sessions"][0]["command"] = "localemp generate -s zero-shot --data talks.jsonl"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert ids(read_records(run)) == list(replies_of_run(run).ids) == names
    assert knows_positions(outline(run))
    again = generate(data="talks.jsonl", script=script)
    assert (again.folder, again.tally) == (run, None)
    assert numbers_of(again.records(2)) == [0, 1]


@pytest.mark.parametrize("command", ["localemp generate --data gone.jsonl", "an 'open quotation", "-d", "--data=x -dy"])
def test_where_the_data_is_not_found_ids_order_the_lines(tmp_path, command):
    settings = {"data_sha256": "0" * 64, "split": "test", "instances": "clean"}
    run = make_run(tmp_path / "run", dict.fromkeys(("d10", "x", "d2", "10", "9"), "Oh."), **settings)
    manifest = read_manifest(run)
    manifest["sessions"][0]["command"] = command
    (run / "manifest.json").write_text(json.dumps(manifest))
    records = read_records(run)
    assert ids(records) == ["9", "10", "d2", "d10", "x"]
    assert not knows_positions(records)
    assert numbers_of(records) == [0, 1, 2, 3, 4]


def test_samples_are_found_by_their_hash_alone(tmp_path):
    data = load_dialogues("samples")
    settings = {"data_sha256": data_hash(data), "split": "test", "instances": "clean"}
    run = make_run(tmp_path / "run", {each.id: "Oh." for each in reversed(data[:5])}, **settings)
    assert [record["position"] for record in read_records(run)] == [0, 1, 2, 3, 4]


def test_an_outline_has_no_texts_and_leads_to_the_whole_lines(tmp_path):
    run = make_run(tmp_path / "run", {"b": "Oh.", "a": "Ah."}, failed="c")
    told = outline(run)
    assert ids(told) == ["a", "b", "c"]
    assert "reply" not in told[0]
    assert [record.get("reply") for record in whole(run, [told[1], told[0]])] == ["Oh.", "Ah."]
    assert whole(run, told[1:2])[0]["turns"] == list(dialogue("b").turns)


def test_strategies_answer_the_same_sample_which_a_larger_one_continues(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = {"data": talks(tmp_path / "talks.jsonl", [f"d{n}" for n in range(40)]), "script": script, "seed": 3}
    one, two = (generate(strategy=name, sample=6, **told) for name in ("zero-shot", "two-stage"))
    assert one.answered == two.answered
    assert [record["id"] for record in one.records()] == ids(read_records(one.folder)) == list(one.answered)
    assert one.settings["sample_seed"] == 3
    more = generate(strategy="zero-shot", sample=9, **told)
    assert (more.folder, len(more.answered), more.tally.done) == (one.folder, 9, 3)
    assert generate(strategy="zero-shot", limit=2, **told).folder != one.folder
    assert ids(read_records(one.folder)) == sorted(more.answered, key=lambda name: int(name[1:]))
