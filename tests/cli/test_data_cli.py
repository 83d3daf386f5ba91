"""`localemp data stats` and `localemp data pull`, as a person types them."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localemp.cli.data import data
from localemp.errors import DataError, UnknownNameError

TABLE = """conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags
c1,1,sad,s1,7,I lost my job.,,
c1,2,sad,s1,9,Oh no.,,
c2,1,proud,s2,7,I won.,,
c2,2,proud,s2,9,Well done_comma_ you!,,
c3,1,sad,s3,7,My cat left.,,
c3,2,sad,s3,9,I am sorry.,,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(TABLE)
    (tmp_path / "test.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    return tmp_path


def localemp_data(*arguments: object) -> Result:
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


def test_json_of_all_splits(folder):
    result = localemp_data("stats", folder, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["source"], report["instances"], list(report["splits"])) == (str(folder), "clean", ["train", "test"])
    assert report["splits"]["test"] == {
        "conversations": 3,
        "utterances": 6,
        "instances": 3,
        "turns_per_context": 1.0,
        "words_per_utterance": 17 / 6,
        "words_per_reply": 8 / 3,
        "emotions": {"sad": 2, "proud": 1},
        "support_strategies": {},
    }


def test_chosen_splits_and_published(folder):
    (folder / "dev.csv").write_text(TABLE)
    options = ["--split", "test", "--split", "validation", "--instances", "published", "--json"]
    splits = json.loads(localemp_data("stats", folder, *options).stdout)["splits"]
    assert {name: split["instances"] for name, split in splits.items()} == {"test": 1, "valid": 1}


def test_table(folder):
    result = localemp_data("stats", folder)
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    assert rows == [
        ["conversations", "3", "3"],
        ["utterances", "6", "6"],
        ["instances", "3", "3"],
        ["turns per context", "1.00", "1.00"],
        ["words per utterance", "2.83", "2.83"],
        ["words per reply", "2.67", "2.67"],
        ["emotions", "2", "2"],
        ["most frequent", "sad 2", "sad 2"],
        ["", "proud 1", "proud 1"],
        ["least frequent", "-", "-"],
    ]


def test_jsonl_and_single_csv(folder):
    own = folder / "own.jsonl"
    own.write_text('{"turns": ["[red]Hi.[/red]"], "emotion": "sad"}\n')
    splits = json.loads(localemp_data("stats", own, "--json").stdout)["splits"]
    assert splits["own.jsonl"]["words_per_reply"] is None
    assert "own.jsonl" in localemp_data("stats", own).stdout
    single = json.loads(localemp_data("stats", folder / "train.csv", "--json").stdout)["splits"]
    assert single["train.csv"]["conversations"] == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--split", "tset"], UnknownNameError), (["--split", "valid"], DataError), (["--json"], DataError)],
)
def test_errors_reach_main(folder, arguments, error):
    path = folder / "none" if arguments == ["--json"] else folder
    result = localemp_data("stats", path, *arguments)
    assert isinstance(result.exception, error)
    assert result.stdout == ""


def test_pull_of_what_is_there(folder):
    (folder / "valid.csv").write_text(TABLE)
    result = localemp_data("pull", "--out", folder)
    assert result.exit_code == 0
    expected = [
        *(str(folder / name) for name in ("train.csv", "valid.csv", "test.csv.gz")),
        f"use it with: --data {folder}",
        f"before --strategy similar, once: localemp retrieval build --data {folder}",
    ]
    assert [line for line in result.stdout.splitlines() if line.strip()] == expected


def test_pull_into_the_cache(folder, monkeypatch):
    (folder / "valid.csv").write_text(TABLE)
    cache = folder / "cache"
    (cache / "data" / "empathetic_dialogues").mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "test.csv.gz"):
        (folder / name).rename(cache / "data" / "empathetic_dialogues" / name)
    monkeypatch.setenv("LOCALEMP_CACHE", str(cache))
    assert "--data empathetic-dialogues" in localemp_data("pull").stdout
    assert localemp_data("stats", "empathetic-dialogues").exit_code == 0


def test_support_strategies_are_counted_where_there_are_some(tmp_path):
    said = [("usr", "Hi."), ("sys", "Hi?"), ("usr", "I am ill."), ("sys", "Since when?")]
    dialog = [{"speaker": who, "text": text, "strategy": "Question"} for who, text in said]
    (tmp_path / "ESConv.json").write_text(json.dumps([{"emotion_type": "fear", "dialog": dialog}]))
    result = localemp_data("stats", tmp_path / "ESConv.json")
    assert result.exit_code == 0
    assert "support strategies" in result.stdout
    assert "Question 2" in result.stdout
    assert "strategies" not in localemp_data("stats", "samples").stdout
