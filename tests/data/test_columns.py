"""Tables of any columns: what `--columns` says is what is read, and what is wrong is named with its place."""

import gzip
import json

import pytest

from localemp.data.columns import Table, check_columns, example_of, parse_columns, source_of
from localemp.data.sources import check_split, find_source, load_dialogues, pool_source
from localemp.dialogue import Dialogue
from localemp.errors import DataError, LocalempError, OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

COLUMNS = {"context": "history", "response": "reply", "emotion": "label", "id": "nr", "separator": "<s>"}
WANTED = [
    Dialogue("7", ("Hi.", "Hello?", "I am sad, today."), "sad", None, "Oh no.", ("7",)),
    Dialogue("8", ("My cat died.",), None, None, None, ("8",)),
]
ROWS = [
    {"History": "Hi.<s>Hello?<s>I am sad, today.<s>", "Reply": "Oh no.", "label": "sad", "nr": 7},
    {"History": " My cat died. ", "Reply": None, "label": "", "nr": 8},
]


def as_csv(separator: str) -> str:
    rows = [[json.dumps(str(value or "")) for value in row.values()] for row in ROWS]
    return "\n".join(separator.join(row) for row in [[" History ", "Reply", "label", "NR"], *rows])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", as_csv(",")),
        ("a.csv", as_csv(";").replace("\n", "\r\n")),
        ("a.tsv", as_csv("\t")),
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.json", json.dumps(ROWS)),
    ],
)
def test_every_kind_of_file_gives_the_same_dialogues(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert load_dialogues(str(tmp_path / name), columns=COLUMNS) == WANTED
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert load_dialogues(str(tmp_path / f"{name}.gz"), columns=COLUMNS) == WANTED


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert load_dialogues(str(tmp_path / "a.parquet"), columns=COLUMNS) == WANTED
    with pytest.raises(UnknownNameError, match="unknown column for context"):
        load_dialogues(str(tmp_path / "a.parquet"), columns={"context": "nix"})


def test_a_list_is_the_turns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"c": ["Hi.", "Hello?", "I am sad."], "conv": "k"}')
    (found,) = load_dialogues(str(tmp_path / "a.jsonl"), columns={"context": "c", "conversation": "conv"})
    assert (found.id, found.turns, found.conversations) == ("line-1", ("Hi.", "Hello?", "I am sad."), ("k",))


def test_a_column_of_several_that_is_spelt_exactly_is_taken(tmp_path):
    (tmp_path / "a.csv").write_text("Q,q,a\nnot this,Hi.,Oh.,,\n")
    assert load_dialogues(str(tmp_path / "a.csv"), columns={"context": "q"})[0].turns == ("Hi.",)


@pytest.mark.parametrize("turn", [{"role": "user"}, ["Hi."], None, True])
def test_a_turn_that_is_no_text(tmp_path, turn):
    (tmp_path / "a.jsonl").write_text(json.dumps({"c": ["Hi.", turn, "Oh."]}))
    with pytest.raises(DataError, match="line 1: turn 2 of the context must be a text, found"):
        load_dialogues(str(tmp_path / "a.jsonl"), columns={"context": "c"})


def test_a_folder_has_splits_and_a_pool_and_a_file_has_neither(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(f"q,a\n{name} one,Oh.\n")
    folder, file = (source_of(str(path), {"context": "q"}) for path in (tmp_path, tmp_path / "test.csv"))
    assert [load_dialogues(folder, split)[0].turns[0] for split in ("train", "test")] == ["train one", "test one"]
    assert (pool_source(folder), pool_source(file)) == (folder, "bundled")
    assert list(find_source(folder).count((), "clean")) == ["train", "test"]
    assert list(find_source(file).count((), "clean")) == ["test.csv"]
    check_split(folder, "train")
    with pytest.raises(OptionError, match=r"test\.csv is one file, which is read whole"):
        check_split(file, "train")
    with pytest.raises(DataError, match="no file of the split valid; it has train, test"):
        load_dialogues(folder, "valid")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("q,a\n", "the file has no row"),
        ("q,a\n,Oh.\n", "line 2: the context is empty"),
        ("q,a\nHi.<s>Hello?,Oh.\n", "line 2: the context: 2 turns: the listener spoke last"),
        ("q,a,i\nHi.,Oh.,1\nHi.,Oh.,1\n", "line 3: line 2 has the same id '1'"),
        ("x,y\n1,2\n", "unknown column for context"),
        ('q,a\n"Hi.,Oh.\n' + "x" * 200_000, "cannot be read as columns"),
        ("", "the file is empty"),
        ('q,a\n"Hi.,Oh.\n', "line 2: a quotation mark is not closed before the file ends"),
        ("q,a\nHi, you.,Oh.\n", "line 2: 3 cells for 2 columns"),
        ("q,Q ,q\nHi.,b,Oh.\n", "3 columns are called q"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, told):
    (tmp_path / "a.csv").write_text(text)
    columns = {"context": "q", "separator": "<s>"} | ({"id": "i"} if ",i" in text else {})
    with pytest.raises(LocalempError, match=told):
        load_dialogues(str(tmp_path / "a.csv"), columns=columns)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("history", "not NAME=COLUMN"),
        ("", "not NAME=COLUMN"),
        ("response=a", "which column is the context"),
        ("context=", "names no column"),
        ("context=a,context=b", "given twice"),
        ("contxt=a", "unknown name in --columns 'contxt'"),
    ],
)
def test_columns_of_another_form(text, told):
    with pytest.raises(LocalempError, match=told):
        parse_columns(text)


def test_columns_are_read_as_typed():
    assert parse_columns(r"response = b , context=a b,separator= \n") == {
        "context": "a b",
        "separator": r" \n",
        "response": "b",
    }
    assert check_columns({}) == {}


@pytest.mark.parametrize(
    ("names", "option"),
    [
        (["Text", "reply", "label"], "--columns context=Text,response=reply,emotion=label"),
        (["x", "answer"], "--columns context=x,response=answer"),
        (["the text", "y"], "--columns 'context=the text'"),
        ([""], "--columns context=COLUMN"),
    ],
)
def test_the_option_is_guessed_from_names(names, option):
    assert example_of(names) == option


@pytest.mark.parametrize(("name", "text"), [("a.csv", "Text,Reply\nHi.,Oh.\n"), ("a.jsonl", '{"Text": 1, "Reply": 2}')])
def test_a_table_without_columns_is_told_the_option_to_give(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="Text, Reply") as raised:
        load_dialogues(str(tmp_path / name))
    assert "--columns context=Text,response=Reply" in raised.value.hint


def test_where_columns_have_no_place(tmp_path):
    with pytest.raises(OptionError, match="samples has columns of its own"):
        find_source(Table("samples", (("context", "q"),)))
    with pytest.raises(DataError, match="no such readable file"):
        find_source(Table(str(tmp_path / "a.csv"), (("context", "q"),)))
    (tmp_path / "a.txt").write_text("q\nHi.\n")
    with pytest.raises(DataError, match=r"must end in one of \.csv"):
        find_source(Table(str(tmp_path / "a.txt"), (("context", "q"),)))
    with pytest.raises(OptionError, match="--instances published"):
        RunConfig(columns={"context": "q"}, instances="published")


def test_the_manifest_has_the_columns_if_there_are_some(tmp_path):
    (tmp_path / "a.csv").write_text("q,a\nHi.,Oh.\n")
    script = tmp_path / "script.json"
    script.write_text('[{"reply": "Oh."}]')
    pipeline = Pipeline(
        RunConfig(data=str(tmp_path / "a.csv"), columns={"response": "a", "context": "q"}, script=script)
    )
    settings = pipeline.settings(pipeline.dialogues("test"), "test")
    assert settings["columns"] == {"context": "q", "response": "a"}
    other = Pipeline(RunConfig(script=script))
    assert "columns" not in other.settings(other.dialogues("test"), "test")


def test_a_record_may_lack_a_column_that_others_have(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"q": "I lost it.", "a": "Oh."}\n{"q": "I won!", "a": "Great.", "mood": "joyful"}\n', "utf-8")
    columns = {"context": "q", "response": "a", "emotion": "Mood"}
    assert [one.emotion for one in load_dialogues(str(path), columns=columns)] == [None, "joyful"]
    with pytest.raises(UnknownNameError, match="column for emotion"):
        load_dialogues(str(path), columns=columns | {"emotion": "moody"})
