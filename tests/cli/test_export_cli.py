"""`runs export`, and its function: the replies of runs as one table."""

import csv
import json

import pytest
from small_runs import make_run

import localemp as package
from localemp.cli.main import COMMANDS
from localemp.errors import LocalempError, OptionError, RunError
from localemp.runs.run import Run, read_manifest

COLUMNS = ["position", "id", "emotion", "situation", "context", "reference"]
HOSTILE = ("=1+1", " @SUM(A1)", "-2", "+3", "\ttab", "'=4", "plain", 'two\nlines, "quoted"')


def two(folder, **settings):
    """A run of four dialogues, and one of three of them that failed once and names feelings."""
    a = make_run(folder / "a", {name: f"Oh, {name}." for name in "abcd"}, **settings)
    return a, make_run(folder / "b", {name: f"Ah, {name}." for name in "ab"}, "two-stage", failed="c", **settings)


def lines_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_runs_are_joined_by_id_in_one_order(tmp_path, localemp):
    two(tmp_path)
    done = localemp("runs", "export", "a", "two=b", "--csv", "x.csv", "--jsonl", "out/x.jsonl")
    assert done.returncode == 0, done.stderr
    assert "written: x.csv" in done.stdout and "4 dialogues" in done.stdout
    assert "two has no reply to 2 of 4 dialogues, 1 of which failed: empty cells" in done.stderr
    assert "kept no positions" in done.stderr, "these runs were written without"
    lines = lines_of(tmp_path / "out" / "x.jsonl")
    assert [line["id"] for line in lines] == list("abcd")
    of_runs = ["a: reply", "a: finish_reason", "two: reply", "two: finish_reason", "two: feeling", "two: error"]
    assert list(lines[0]) == COLUMNS + of_runs
    assert [line["two: reply"] for line in lines] == ["Ah, a.", "Ah, b.", None, None]
    assert [line["two: error"] for line in lines] == [None, None, "too hot", None]
    assert (lines[0]["two: feeling"], lines[0]["context"]) == ("I am so sad today.", ["This is the story a."])
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["a: reply"] for row in rows] == [f"Oh, {name}." for name in "abcd"]
    assert rows[0]["context"] == "Speaker: This is the story a."


def test_one_run_has_plain_columns_and_formulas_are_guarded(tmp_path):
    run = make_run(tmp_path / "run", {f"d{number}": text for number, text in enumerate(HOSTILE)})
    result = package.export(run, csv=tmp_path / "x.csv")
    assert list(result.columns) == [*COLUMNS, "reply", "finish_reason"]
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        found = [row["reply"] for row in csv.DictReader(file)]
    assert found == [text if text[0] in "pt" else f"'{text}" for text in HOSTILE]


def test_only_what_every_run_answered(tmp_path):
    result = package.export(two(tmp_path), jsonl=tmp_path / "x.jsonl", common=True)
    assert [line["id"] for line in lines_of(tmp_path / "x.jsonl")] == ["a", "b"]
    assert "2 dialogues of 4, to which every run has a reply" in result.notes


def test_places_in_the_data_order_the_rows_of_all_runs(tmp_path):
    for name, answers in (("a", "bd"), ("b", "abc")):
        made = make_run(tmp_path / name, {}, data_sha256="1")
        with Run.open(made, read_manifest(made)["settings"]) as run:
            run.positions = {"d": 0, "b": 5, "a": 7, "c": 9}
            for each in answers:
                run.append({"id": each, "reply": "Oh.", "turns": ["Hi."]})
    package.export([tmp_path / "a", tmp_path / "b"], jsonl=tmp_path / "x.jsonl")
    assert [(line["position"], line["id"]) for line in lines_of(tmp_path / "x.jsonl")] == [
        (0, "d"), (5, "b"), (7, "a"), (9, "c"),
    ]  # fmt: skip


def test_parquet_holds_the_same_as_the_lines(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    package.export(two(tmp_path), jsonl=tmp_path / "x.jsonl", parquet=tmp_path / "x.parquet")
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == lines_of(tmp_path / "x.jsonl")


def test_what_cannot_be_exported_is_said_and_nothing_is_written(tmp_path, monkeypatch):
    a, _ = two(tmp_path)
    other = make_run(tmp_path / "other", {"x": "Oh."}, data_sha256="2")
    empty = make_run(tmp_path / "empty", {}, failed="a")
    changed = make_run(tmp_path / "changed", {"a": "Oh."})
    lines = changed / "responses.jsonl"
    lines.write_text(lines.read_text().replace("the story a", "another story"))
    there = tmp_path / "there.csv"
    there.write_text("mine")
    out = {"csv": tmp_path / "x.csv"}
    for runs, told, error, said in (
        ([], out, OptionError, "nothing to export"),
        (a, {}, OptionError, "no file is named"),
        (a, {"csv": there}, OptionError, "it is there already"),
        (a, {"jsonl": tmp_path}, OptionError, "it is a folder"),
        (a, {"csv": tmp_path / "x", "jsonl": tmp_path / "x"}, OptionError, "one file"),
        ({"same": a}, {"csv": there / "x.csv"}, OptionError, "a file is in its place"),
        ([a, other], out, OptionError, "no dialogue is in both a and other"),
        ([a, changed], out, OptionError, "'a' is another dialogue in changed .* its context differs"),
        (empty, out, RunError, "no replies yet"),
        ([f"x={a}", f"x={other}"], out, OptionError, "two runs are called x"),
    ):
        with pytest.raises(error, match=said):
            package.export(runs, **told)
    monkeypatch.setattr("localemp.utils.extras.find_spec", lambda name: None)
    with pytest.raises(LocalempError, match="--parquet needs pyarrow") as caught:
        package.export(a, parquet=tmp_path / "x.parquet")
    assert "pip install " in caught.value.hint and "[parquet]" in caught.value.hint
    assert there.read_text() == "mine"
    assert not [*tmp_path.glob("*x*.csv*"), *tmp_path.glob(".*")]
    assert package.export(a, csv=there, overwrite=True).written == (there,)
    assert there.read_text().startswith("position,id,")
    assert "export" in COMMANDS["runs"][1]


def test_runs_of_different_data_are_joined_in_the_order_of_the_first(tmp_path):
    a = make_run(tmp_path / "a", {"b": "Oh.", "c": "Oh."}, data_sha256="1")
    b = make_run(tmp_path / "b", {"b": "Oh.", "a": "Oh."}, data_sha256="2")
    (tmp_path / "b" / "responses.jsonl").write_text((tmp_path / "a" / "responses.jsonl").read_text())
    result = package.export([a, b], jsonl=tmp_path / "x.jsonl")
    assert result.notes[0].startswith("the runs have different data")


def test_nobody_elses_files_are_written_to(tmp_path, localemp):
    run = make_run(tmp_path / "a", {"a": "Oh."})
    kept = tmp_path / "kept"
    kept.write_text("mine")
    (tmp_path / ".x.csv.part").symlink_to(kept)
    package.export([run], csv=tmp_path / "x.csv", jsonl=tmp_path / ".y.csv.part")
    assert kept.read_text() == "mine" and (tmp_path / ".y.csv.part").is_file()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("x.csv", "dangling"):
        with pytest.raises(OptionError, match="there already"):
            package.export([run], csv=tmp_path / name)
    done = localemp("runs", "export", "a", "--csv", "x" * 300)
    assert done.returncode == 2 and "File name too long" in done.stderr
    done = localemp("runs", "export", "a", "--csv", "z.csv", "--jsonl", "a/" * 100_000)
    assert done.returncode == 2 and len(done.stderr) < 10_000
