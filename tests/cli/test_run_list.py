"""`localemp runs list`: how far runs got, and which has the best score."""

import json

import pytest
from small_runs import four, make_run

import localemp as package
from localemp.errors import UnknownNameError
from localemp.runs.run import Run, read_manifest


@pytest.fixture
def runs(tmp_path):
    four(tmp_path / "runs/smollm2-zero-shot-52763df9")
    make_run(tmp_path / "runs/half", {name: f"Tell me more of {name}." for name in "ab"}, dialogues=4, failed="c")
    four(tmp_path / "runs/unscored", model="llama")
    make_run(tmp_path / "runs/empty", {}, dialogues=3)
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/manifest.json").write_text("{")
    package.score([tmp_path / "runs/smollm2-zero-shot-52763df9", tmp_path / "runs/half"], metric="B-2")
    return tmp_path / "runs"


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_list_says_how_far_each_run_got_in_80_columns(localemp, runs, columns):
    done = localemp("runs", "list", env={"COLUMNS": columns, "TZ": "UTC"})
    assert (done.returncode, max(map(len, done.stdout.splitlines())) <= int(columns)) == (0, True)
    shown = " ".join(done.stdout.split())
    for told in ("4 of 4", "(100 %)", "2 of 4", "(50 %)", "1 failed", "0 of 3", "damaged", "llama"):
        assert told in shown
    assert all(f"{run.started:%H:%M}" in shown for run in package.list_runs(runs).runs if run.started)


def test_a_leaderboard_has_the_best_first_and_says_what_is_not_scored(localemp, runs):
    done = localemp("runs", "list", "--by", "B-2", env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    names = ("half", "smollm2-", "bad", "empty", "unscored")
    places = [next(n for n, line in enumerate(lines) if f"runs/{name}" in line) for name in names]
    assert (places, max(map(len, lines[: places[-1]])) <= 80) == (sorted(places), True)
    for told in (
        "by B-2: the highest first",
        "a: on 4 dialogues, where runs/half has 2 (runs/smollm2-zero-shot-52763df9: B-2)",
        "n/a: runs/empty, runs/unscored: not scored",
        "`localemp score RUN` scores a run",
    ):
        assert told in lines
    assert "lower is better" in localemp("runs", "list", "--by", "PPL").stdout
    assert "`localemp score --ppl RUN`" in localemp("runs", "list", "--by", "PPL").stdout
    kept = json.loads(localemp("runs", "list", "--by", "B-2", "--json").stdout)
    assert [run["score"] and run["score"]["name"] for run in kept["runs"]] == ["B-2", "B-2", None, None, None]
    assert "did you mean 'B-2'" in localemp("runs", "list", "--by", "b2").stderr


def test_from_python_a_score_of_other_replies_does_not_count(runs):
    with Run.open(runs / "half", read_manifest(runs / "half")["settings"]) as run:
        run.append({"id": "d", "reply": "Oh.", "turns": ["Hi."]})
    listed = {run.folder.name: run for run in package.list_runs(runs, by="B-2").runs}
    assert (listed["half"].value, listed["half"].unscored) == (None, "scored when it had other replies")
    assert listed["unscored"].unscored == "not scored"
    with pytest.raises(UnknownNameError):
        package.list_runs(runs, by="F1")


@pytest.mark.parametrize(
    ("session", "split", "told"),
    [
        ({"data": "empathetic-dialogues"}, "test", "empathetic-dialogues"),
        ({"data": "mine.jsonl"}, "valid", "mine.jsonl (valid)"),
        ({"command": "localemp generate --data esconv --limit 3"}, "test", "esconv"),
        ({"command": "localemp generate '--data=my data.csv'"}, "test", "my data.csv"),
        ({"command": "localemp generate --data"}, "test", ""),
        ({"command": "it's"}, "valid", ""),
        ({}, "test", ""),
    ],
)
def test_the_data_are_those_that_were_asked_for(tmp_path, session, split, told):
    with Run.open(tmp_path / "run", {"model": "m", "strategy": "zero-shot", "split": split}) as run:
        run.add_session({"dialogues": 2} | session)
    (listed,) = package.list_runs(tmp_path).runs
    assert (listed.data, listed.share) == (told, 0.0)
