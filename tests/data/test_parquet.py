"""Tables in Parquet: the same dialogues as from CSV and JSON, where their files lie, and damaged or hostile ones."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from localemp.data.empathetic_dialogues import read_conversations
from localemp.data.sources import find_source, load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.errors import DataError
from localemp.utils.extras import install_command

pyarrow = pytest.importorskip("pyarrow", reason="tables need pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = ("conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance", "selfeval", "tags")


def rows(*names, turns=4):
    """Conversations of four turns, as the rows of the data set have them."""
    return [
        (name, turn, "sad", f"situation_comma_ {name}", 7 + turn % 2, f"{name}_comma_ {turn}", "5|5|5", "")
        for name in names
        for turn in range(1, turns + 1)
    ]


def csv(path: Path, table) -> Path:
    text = "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in table)])
    path.write_text(text + "\n")
    return path


def write(path: Path, table, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [dict(zip(COLUMNS, row, strict=True)) if isinstance(row, tuple) else row for row in table]
    parquet.write_table(pyarrow.Table.from_pylist(records), path, **options)
    return path


@pytest.mark.parametrize("instances", ["clean", "published"])
@pytest.mark.parametrize("options", [{}, {"row_group_size": 3}, {"compression": "zstd"}, {"use_dictionary": False}])
def test_the_same_instances_as_from_csv(tmp_path, options, instances):
    table = rows("a", "b", "c", "d")
    expected = load_dialogues(str(csv(tmp_path / "a.csv", table)), "test", instances)
    assert expected[0].turns == ("a, 1",)
    assert load_dialogues(str(write(tmp_path / "a.parquet", table, **options)), "test", instances) == expected
    lines = "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in table)
    (tmp_path / "a.jsonl").write_text(lines)
    assert load_dialogues(str(tmp_path / "a.jsonl"), "test", instances) == expected


@pytest.mark.parametrize("kind", [str, float, lambda number: number])
def test_numbers_of_any_type(tmp_path, kind):
    table = [(row[0], kind(row[1]), *row[2:4], kind(row[4]), *row[5:]) for row in rows("a", "b")]
    whole = csv(tmp_path / "a.csv", rows("a", "b"))
    assert read_conversations(write(tmp_path / "a.parquet", table)) == read_conversations(whole)


def test_anomalies_are_told_by_row(tmp_path, caplog):
    table = [*rows("a", "b"), ("c", 1, "sad", "p", 7, "One", "", ""), ("c", 2, "sad", "p", 7, "Two", "", None)]
    path = write(tmp_path / "a.parquet", table)
    assert read_conversations(path)[-1].turns == ("One Two",)
    (record,) = caplog.records
    assert record.getMessage().endswith("are merged with the row before (row 10)")


LAYOUTS = [
    "train.parquet",
    "data/train-00000-of-00001.parquet",
    "default/train/0000.parquet",
    "train/0000.parquet",
    "empathetic_dialogues-train.parquet",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_hubs_have_the_files(tmp_path, layout):
    for split, name in (("train", "a"), ("validation", "b"), ("test", "c")):
        write(tmp_path / layout.replace("train", split), rows(name))
    source = str(tmp_path)
    assert find_source(source).splits == ("train", "valid", "test")
    assert [load_dialogues(source, split)[0].id for split in ("train", "dev", "test")] == ["a#1", "b#1", "c#1"]
    assert pool_source(source) == source
    counted = find_source(source).count((), "clean")
    assert {split: one.utterances for split, one in counted.items()} == {"train": 4, "valid": 4, "test": 4}
    one = str(tmp_path / layout.replace("train", "test"))
    assert load_dialogues(pool_source(one), "train")[0].id == "a#1"


def test_conversation_in_two_pieces(tmp_path):
    table = rows("a", "b")
    write(tmp_path / "test-00001-of-00002.parquet", table[6:])
    write(tmp_path / "test-00000-of-00002.parquet", table[:6])
    assert [one.id for one in load_dialogues(str(tmp_path))] == ["a#1", "a#3", "b#1", "b#3"]


def test_csv_comes_first(tmp_path):
    csv(tmp_path / "test.csv", rows("a"))
    write(tmp_path / "test.parquet", rows("b"))
    assert load_dialogues(str(tmp_path))[0].id == "a#1"


def test_other_forms_are_tables_too(tmp_path):
    said = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Oh."}]
    llm = {"conv_id": "c", "situation": "s", "emotion": "sad", "conversations": said}
    assert load_dialogues(str(write(tmp_path / "a.parquet", [llm]))) == [
        Dialogue("c#1", ("Hi.",), "sad", "s", "Oh.", ("c",))
    ]
    dialog = [{"text": "Hi.", "speaker": "usr"}, {"text": "Hi?", "speaker": "sys", "strategy": "Question"}]
    support = {"text": json.dumps({"emotion_type": "fear", "dialog": dialog})}
    assert load_dialogues(str(write(tmp_path / "b.parquet", [support]))) == [
        Dialogue("b:1#1", ("Hi.",), "fear", None, "Hi?", ("b:1",), ("Question",))
    ]
    own = {"turns": ["Hi.", "Hi?", "Ho."], "extra": 1}
    assert load_dialogues(str(write(tmp_path / "c.parquet", [own]))) == [
        Dialogue("row-1", ("Hi.", "Hi?", "Ho."), conversations=("row-1",))
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            [{"instruction": "Hi.", "output": "Oh."}],
            "form: the keys of the first record are instruction, output",
        ),
        ([{"text": "Hi."}], "unknown form: the keys of the first record are text"),
        ([{"conv_id": "a", "utterance": "Hi."}], "row 1: no utterance_idx"),
        ([("a", "one", "sad", "p", 7, "Hi.", "", "")], "row 1: utterance_idx 'one' is not a whole number"),
        ([("a", 1, "sad", "p", 7, "Hi.", "", "")] * 2, "row 2: utterance 1 of a occurs twice"),
        ([("a", 1, "sad", "p", 7, ["Hi."], "", "")], "row 1: utterance must be a text or a number, found a list"),
        ([("a", 1, "sad", "p", 7, b"Hi.", "", "")], "the column 'utterance' has values of the type binary"),
        ([{"messages": [{"role": "user", "content": b"Hi."}]}], "the column 'messages' has values of the type list"),
        ([{"messages": "Hi."}], 'row 1: "messages" must be a list of messages, found a string'),
        ([("a", 1, "sad", "p", 7, "Hi.", "", "")], "no conversation has a listener turn"),
    ],
    ids=range(10),
)
def test_table_of_another_form(tmp_path, table, words):
    path = write(tmp_path / "a.parquet", table)
    with pytest.raises(DataError) as caught:
        load_dialogues(str(path))
    assert caught.value.message.startswith(str(path))
    assert words in caught.value.message


def test_column_that_is_there_twice(tmp_path):
    table = pyarrow.table([pyarrow.array(["Hi."])] * 2, names=["utterance", "utterance"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column conv_id or"):
        load_dialogues(str(tmp_path / "a.parquet"))


def test_empty_table(tmp_path):
    types = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
    parquet.write_table(types.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the file is empty"):
        load_dialogues(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"PAR1", "damaged, or not a Parquet file"),
        (b"conv_id,utterance_idx\n", "not a Parquet file"),
        (b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1", "damaged, or not a Parquet file"),
        (b"PAR1" + b"\0" * 100 + b"\x10\0\0\0PAR1", "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ],
    ids=range(6),
)
def test_no_table(tmp_path, content, words):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_dialogues(str(path))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_damaged_tables_are_errors_never_tracebacks(tmp_path, seed):
    """Bytes are changed, and files cut, at places that are the same in every run."""
    whole = write(tmp_path / "a.parquet", rows(*"abcdefgh"), row_group_size=10).read_bytes()
    chance = random.Random(seed)
    path, failed = tmp_path / "b.parquet", 0
    for number in range(300):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(4, len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.randrange(4, len(content))] if number % 5 == 0 else content)
        try:
            load_dialogues(str(path))
        except DataError as error:
            assert str(path) in error.message
            failed += 1
    assert failed > 100


@pytest.mark.parametrize(("count", "length"), [(300_000, 2**16), (3_000_000, 100)])
def test_small_file_of_endless_text(tmp_path, count, length):
    """A text of the dictionary, repeated; what is said of its size is true, and small."""
    texts = {name: text for name, text in zip(COLUMNS, ("a", "", "sad", "p", "", "x" * length), strict=False) if text}
    same = pyarrow.array([0] * count, pyarrow.int32())
    columns = {name: pyarrow.DictionaryArray.from_arrays(same, pyarrow.array([text])) for name, text in texts.items()}
    columns["utterance_idx"] = pyarrow.array(range(count))
    path, packed = tmp_path / "a.parquet", {"utterance_idx": "DELTA_BINARY_PACKED"}
    parquet.write_table(pyarrow.table(columns), path, use_dictionary=[*texts], column_encoding=packed)
    assert path.stat().st_size < 2**18
    with pytest.raises(DataError, match=r"more than 1\d MiB when unpacked"):
        load_dialogues(str(path))


@pytest.mark.parametrize(("count", "length"), [(20_000_000, 100), (200_000, 60_000)])
def test_one_row_of_endless_text(tmp_path, count, length):
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), ["x" * length])
    column = pyarrow.ListArray.from_arrays([0, count], texts)
    parquet.write_table(pyarrow.table({"turns": column}), tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 2**16
    with pytest.raises(DataError, match="more than 16 MiB when unpacked"):
        load_dialogues(str(tmp_path / "a.parquet"))


def test_without_pyarrow(tmp_path):
    path = write(tmp_path / "a.parquet", rows("a"))
    blocked = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "from localemp.cli.main import main\nsys.argv = ['localemp', 'data', 'stats', sys.argv[1]]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", blocked, path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Parquet files need pyarrow" in done.stderr
    assert install_command("parquet") in done.stderr
    assert "Traceback" not in done.stderr
