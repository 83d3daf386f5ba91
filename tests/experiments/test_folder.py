"""The folder of an experiment: what is found again, what is refused, and what is taken over."""

import json
import shutil

import pytest
from read_only import only_read, open_folder
from small_runs import four, make_run

from localemp.errors import RunError
from localemp.experiments.folder import ExperimentFolder, file_name, read_experiment, run_folders
from localemp.experiments.reuse import copy_run
from localemp.experiments.states import list_experiments, show
from localemp.runs.journal import read_manifest
from localemp.runs.run import Run, read_records

ZERO, STAGED = {"model": "m", "strategy": "zero-shot"}, {"model": "m", "strategy": "two-stage"}


def row(folder, name="0-shot", dialogues=4, **facts):
    return {
        "name": name, "row": name, "model": "m", "strategy": "zero-shot", "folder": f"rows/{folder.name}",
        "dialogues": dialogues, **facts,
    }  # fmt: skip


def begin(path, *rows):
    with ExperimentFolder.open(path) as folder:
        folder.begin("mine", {"rows": []}, rows)


def settings_of(run):
    return read_manifest(run)["settings"]


def test_a_row_is_found_by_its_settings_whatever_its_name_is_now(tmp_path):
    with ExperimentFolder.open(tmp_path / "x") as folder:
        (first, second) = run_folders(folder.path, [("0-shot", ZERO), ("two stages", STAGED)])
        assert first.name.startswith("0-shot-")
        assert second.name.startswith("two-stages-")
        for place, settings in ((first, ZERO), (second, STAGED)):
            Run.open(place, settings).close()
        assert run_folders(folder.path, [("base", ZERO), ("two stages", STAGED)]) == [first, second]
        changed = run_folders(folder.path, [("0-shot", {**ZERO, "seed": 1})])
        assert changed[0] not in (first, second)
        assert changed[0].name.startswith("0-shot-")


def test_rows_of_the_same_settings_have_one_folder(tmp_path):
    with ExperimentFolder.open(tmp_path / "x") as folder:
        first, second, other = run_folders(folder.path, [("a", ZERO), ("b", ZERO), ("c", STAGED)])
        assert first == second != other
        Run.open(first, ZERO).close()
        assert run_folders(folder.path, [("b", ZERO), ("a", ZERO)]) == [first, first]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "…", "n" * 500, "ü, 5 shots", "𝕏" * 100])
def test_any_name_is_a_file_name(tmp_path, name):
    made = file_name(name)
    assert "/" not in made
    assert not made.startswith(".")
    (tmp_path / f".{made}-01234567.part").mkdir()
    assert file_name("n" * 499) != file_name("n" * 500)


def test_a_folder_of_something_else_is_refused_and_not_touched(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("all of it")
    run = four(tmp_path / "run")
    for folder in (tmp_path / "notes", run):
        before = sorted(folder.iterdir())
        with pytest.raises(RunError, match=r"not empty, and experiment\.json is missing") as caught:
            ExperimentFolder.open(folder)
        assert caught.value.hint == "choose another --out"
        assert sorted(folder.iterdir()) == before
    with pytest.raises(RunError, match="a file is in its place"):
        ExperimentFolder.open(tmp_path / "notes" / "thesis.txt")


def test_an_experiment_that_was_killed_at_its_start_goes_on(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / ".experiment.json.0123.part").touch()
    begin(tmp_path, row(tmp_path / "a"))
    assert read_experiment(tmp_path)["name"] == "mine"


def test_two_processes_do_not_work_on_one_experiment(tmp_path):
    with ExperimentFolder.open(tmp_path / "x"):
        with pytest.raises(RunError, match="another localemp is working on this experiment"):
            ExperimentFolder.open(tmp_path / "x")
        begin(tmp_path / "y")
    begin(tmp_path / "x")
    assert not show(tmp_path / "x").running


def test_a_damaged_manifest_is_told_and_the_rows_are_found_without_it(tmp_path):
    run = four(tmp_path / "rows" / "a-01234567")
    begin(tmp_path, row(run))
    (tmp_path / "experiment.json").write_text('{"rows": [{"name": "a", "folder": "rows/../../etc"}], "sessions": []}')
    with pytest.raises(RunError, match=r"the manifest is damaged: rows\[1\]\.folder") as caught:
        ExperimentFolder.open(tmp_path)
    assert "move it away" in caught.value.hint
    told = {"rows": [{"name": "a", "folder": f"rows/{'x' * 256}"}], "sessions": []}
    (tmp_path / "experiment.json").write_text(json.dumps(told))
    with pytest.raises(RunError, match="no file has such a long name"):
        show(tmp_path)
    (tmp_path / "experiment.json").unlink()
    begin(tmp_path, row(run))
    assert [each.answered for each in show(tmp_path).rows] == [4]


def test_rows_that_left_the_plan_stay_and_come_back(tmp_path):
    zero, staged = four(tmp_path / "rows" / "zero"), four(tmp_path / "rows" / "staged")
    begin(tmp_path, row(zero, "0-shot", taken_over={"from": "runs/x", "replies": 4}), row(staged, "staged"))
    begin(tmp_path, row(staged, "two stages"))
    assert [(each.name, each.planned) for each in show(tmp_path).rows] == [("two stages", True), ("0-shot", False)]
    begin(tmp_path, row(staged, "staged"), row(zero, "0-shot"))
    assert [(each.name, each.planned) for each in show(tmp_path).rows] == [("staged", True), ("0-shot", True)]
    manifest = read_experiment(tmp_path)
    assert manifest["rows"][1]["taken_over"] == {"from": "runs/x", "replies": 4}
    assert len(manifest["sessions"]) == 3


def test_nothing_secret_is_written(tmp_path):
    key = "sk-0123456789abcdef0123"
    with ExperimentFolder.open(tmp_path) as folder:
        plan = {"models": [{"model": "m", "base_url": f"http://me:{key}@host/v1"}], "defaults": {"api_key": key}}
        folder.begin("mine", plan, [row(tmp_path / "a")])
        folder.change_rows({tmp_path / "a": {"error": f"401 for Bearer {key}"}})
        folder.change({"estimate": {"token": key}})
    assert key not in (tmp_path / "experiment.json").read_text()


def test_rows_are_not_lost_where_the_manifest_cannot_be_written(caplog):
    with open_folder() as parent:
        place = parent / "x"
        with ExperimentFolder.open(place) as folder:
            folder.begin("mine", {}, [row(place / "rows" / "a")])
            with only_read(place):
                folder.change_rows({place / "rows" / "a": {"error": "the engine died"}})
                with pytest.raises(RunError, match="cannot be written"):
                    folder.save()
            assert "not updated" in caplog.text
            folder.change_rows({place / "rows" / "a": {"hint": "see its log"}})
        assert (show(place).rows[0].error, show(place).rows[0].hint) == ("the engine died", "see its log")


def test_states(tmp_path):
    rows = tmp_path / "mine" / "rows"
    finished, stopped, failed = (
        four(rows / "finished"),
        four(rows / "stopped"),
        make_run(rows / "failed", {}, failed="a"),
    )
    broken = four(rows / "broken")
    dead = four(rows / "dead")
    (broken / "responses.jsonl").write_text("{]\n")
    entries = [
        row(finished, "finished"),
        row(stopped, "stopped", dialogues=9),
        row(failed, "failed", dialogues=1),
        row(broken, "broken"),
        row(dead, "dead", dialogues=9, error="the engine died", retry="localemp experiment mine.toml"),
        row(rows / "new", "new"),
    ]
    begin(tmp_path / "mine", *entries)
    with Run.open(stopped, settings_of(stopped)), ExperimentFolder.open(tmp_path / "mine") as folder:
        waiting = show(tmp_path / "mine").rows[1]
        folder.change_rows({stopped: {"begun": "2026-11-29T20:00:00+00:00"}})
        running = show(tmp_path / "mine").rows[1]
    state = show(tmp_path / "mine")
    assert (waiting.state, running.state) == ("waiting", "running")
    assert {each.name: each.state for each in state.rows} == {
        "finished": "finished",
        "stopped": "stopped",
        "failed": "failed",
        "broken": "failed",
        "dead": "failed",
        "new": "not started",
    }
    assert [(each.answered, each.failed) for each in state.rows[:3]] == [(4, 0), (4, 0), (0, 1)]
    assert "line 1" in state.rows[3].error
    assert state.rows[4].retry == "localemp experiment mine.toml"
    assert list(list_experiments(str(tmp_path))) == [tmp_path / "mine"]
    with pytest.raises(RunError, match="is not an experiment"):
        show(tmp_path)


def test_a_run_of_the_same_settings_is_copied_whole_or_in_part(tmp_path, caplog):
    caplog.set_level("INFO", "localemp")
    run = make_run(tmp_path / "run", {"a": "Oh.", "b": "No."}, failed="c")
    with (run / "responses.jsonl").open("a") as lines:
        lines.write('{"id": "d", "reply": "cut')
    target = tmp_path / "x" / "rows" / "0-shot-1"
    assert copy_run(run, target, settings_of(run), "0-shot") == 2
    assert "row '0-shot': 2 replies taken over from" in caplog.text
    with Run.open(target, settings_of(run)) as copied:
        assert (copied.answered, copied.failed) == ({"a", "b"}, {"c"})
    assert read_manifest(target)["sessions"] == read_manifest(run)["sessions"]
    assert [path.name for path in target.parent.iterdir()] == ["0-shot-1"]
    # What the copy has since is not overwritten.
    assert copy_run(four(tmp_path / "four"), target, settings_of(tmp_path / "four"), "0-shot") == 0
    assert len(read_records(target)) == 3


def test_a_run_that_began_without_a_reply_makes_room_for_a_copy(tmp_path):
    run, target = four(tmp_path / "run"), tmp_path / "target"
    Run.open(target, settings_of(run)).close()
    assert copy_run(run, target, settings_of(run), "0-shot") == 4
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()
    assert copy_run(run, other, settings_of(run), "0-shot") == 0
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_runs_that_are_not_copied(tmp_path, caplog):
    run, target = four(tmp_path / "run"), tmp_path / "target"
    settings = settings_of(run)
    assert copy_run(tmp_path / "none", target, settings, "r") == 0
    assert copy_run(run, target, {**settings, "seed": 4}, "r") == 0
    with Run.open(run, settings):
        assert copy_run(run, target, settings, "r") == 0
        assert "another localemp is writing to it" in caplog.text
    caplog.clear()
    assert copy_run(make_run(tmp_path / "failed", {}, failed="a"), target, settings, "r") == 0
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "responses.jsonl").write_text("{]\n")
    assert copy_run(damaged, target, settings, "r") == 0
    assert "line 1" in caplog.text
    (damaged / "manifest.json").write_text(json.dumps([]))
    assert copy_run(damaged, target, settings, "r") == 0
    assert not target.exists()
