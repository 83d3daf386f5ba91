"""From what a person types to dialogues."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from localemp.data.sources import data_hash, find_source, load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.utils.paths import resource

HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"


def table(name: str, conversations: int = 3) -> str:
    """Conversations of four turns, so two instances each."""
    return HEADER + "".join(
        f"{name}{number},{turn},sad,situation {number},7,{name} {number} {turn},,\n"
        for number in range(conversations)
        for turn in range(1, 5)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ed"
    made.mkdir()
    (made / "train.csv").write_text(table("train"))
    (made / "dev.csv.gz").write_bytes(gzip.compress(table("dev").encode()))
    return made


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text('{"turns": ["Hi."]}\n{"turns": ["Ho."]}\n{"turns": ["Hm."]}\n')
    return path


def test_folder(folder):
    assert [one.id for one in load_dialogues(str(folder), "train", limit=3)] == ["train0#1", "train0#3", "train1#1"]
    assert {one.turns[0] for one in load_dialogues(str(folder), "valid")} == {"dev 0 1", "dev 1 1", "dev 2 1"}
    assert load_dialogues(str(folder), "validation") == load_dialogues(str(folder), "valid")
    assert find_source(str(folder)).splits == ("train", "valid")


def test_published(folder):
    assert [one.id for one in load_dialogues(str(folder), "train", "published")] == ["train0#1", "train0#3"]


def test_single_csv_is_every_split(folder):
    file = str(folder / "dev.csv.gz")
    assert load_dialogues(file, "train") == load_dialogues(file) == load_dialogues(str(folder), "valid")


def test_jsonl_has_no_splits(jsonl):
    assert [one.id for one in load_dialogues(str(jsonl), "train", limit=2)] == ["line-1", "line-2"]
    plain = jsonl.rename(jsonl.with_name("own.json"))
    packed = jsonl.with_name("own.jsonl.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load_dialogues(str(plain)) == load_dialogues(str(packed), limit=10)


def test_pulled_folder(folder, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(folder.parent / "cache"))
    with pytest.raises(DataError) as caught:
        load_dialogues("empathetic-dialogues")
    assert "localemp data pull" in caught.value.hint
    (folder.parent / "cache" / "data").mkdir(parents=True)
    folder.rename(folder.parent / "cache" / "data" / "empathetic_dialogues")
    assert len(load_dialogues("empathetic-dialogues", "train")) == 6
    assert pool_source("empathetic-dialogues") == "empathetic-dialogues"


def test_names_of_what_ships_with_localemp():
    assert find_source("samples").path == resource("prompts", "dialogues", "samples.jsonl")
    assert find_source("bundled").path == resource("prompts", "dialogues", "train.jsonl")


def test_missing_split_says_what_is_there(folder):
    with pytest.raises(DataError, match=r"no file of the split test; it has train, valid"):
        load_dialogues(str(folder))
    with pytest.raises(DataError, match="it has no split"):
        load_dialogues(str(folder.parent))


def test_unknown_split(folder):
    with pytest.raises(UnknownNameError) as caught:
        load_dialogues(str(folder), "tset")
    assert caught.value.known == ("train", "valid", "test")


def test_unknown_kind_of_instances(folder):
    with pytest.raises(UnknownNameError, match="'dirty'") as caught:
        load_dialogues(str(folder), "train", "dirty")  # type: ignore[arg-type]
    assert caught.value.known == ("clean", "published")


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one(jsonl, limit):
    with pytest.raises(OptionError, match=f"--limit {limit}: too small"):
        load_dialogues(str(jsonl), limit=limit)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"sample\.jsonl") as caught:
        load_dialogues(str(tmp_path / "sample.jsonl"))
    assert "samples, bundled, empathetic-dialogues" in caught.value.hint


def test_file_of_another_kind(tmp_path):
    (tmp_path / "a.docx").touch()
    with pytest.raises(DataError, match=r"one of \.csv, \.jsonl, \.json, \.parquet, or"):
        load_dialogues(str(tmp_path / "a.docx"))


def test_no_instances(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(table("a", conversations=2))
    with pytest.raises(DataError, match="published drops the last two"):
        load_dialogues(str(path), instances="published")
    path.write_text(HEADER + "c1,1,sad,p,7,Hi,,\n")
    with pytest.raises(DataError, match=r"no conversation has a listener turn$"):
        load_dialogues(str(path))


def test_pool(folder, jsonl):
    assert pool_source(str(folder)) == str(folder)
    assert pool_source(str(folder / "dev.csv.gz")) == str(folder)
    assert pool_source(str(jsonl)) == pool_source("samples") == pool_source("bundled") == "bundled"


def test_hash_is_the_same_everywhere():
    # printf '["a",["Café?"],"sad",null,null,["c"]]\n' with é written \u00e9, through sha256sum
    dialogue = Dialogue("a", ("Café?",), "sad", conversations=("c",))
    assert data_hash([dialogue]) == "16996f482a6c489509a6e509c10c05500382429cf3b63927a4d8574d2cefb383"


def test_hash_sees_every_field_and_the_order():
    first, second = Dialogue("a", ("Hi.",)), Dialogue("b", ("Hi.",))
    changed = [
        [first, second],
        [second, first],
        [first],
        [],
        [replace(first, id="x")],
        [replace(first, emotion="x")],
        [replace(first, situation="x")],
        [replace(first, reference="x")],
        [replace(first, turns=("Hi.", "Ho.", "Hm."))],
        [replace(first, conversations=("x",))],
        [replace(first, support_strategies=("x",))],
    ]
    assert len({data_hash(dialogues) for dialogues in changed}) == len(changed)
