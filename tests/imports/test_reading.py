"""From a file to replies: formats, hypotheses, data sets, notes and errors."""

import gzip
import json

import pytest
from released_forms import CEM, EMPDG, FILES, MIME

from localemp.errors import DataError, UnknownNameError
from localemp.imports.reading import read_import

HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"


@pytest.fixture
def write(tmp_path):
    def _write(text, name="out.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


@pytest.fixture
def data(tmp_path):
    """Three test rows (two more conversations are lost, as in the published data), and four validation rows."""
    folder = tmp_path / "ed"
    folder.mkdir()
    test = [("guilty", "I broke it.", "Feeling bad?"), ("sad", "It's gone.", "Which one?"), ("sad", "Hi", "Hello!")]
    valid = [("proud", f"I won {word}.", f"How {word}!") for word in ("one", "two", "three", "four")]
    for split, rows in {"test": test, "valid": valid}.items():
        kept = [*rows, ("sad", "lost", "lost"), ("sad", "lost too", "lost too")]
        lines = [
            f"hit:{number},{index},{emotion},situation {number},{index % 2},{text},,"
            for number, (emotion, speaker, listener) in enumerate(kept)
            for index, text in enumerate((speaker, listener), 1)
        ]
        (folder / f"{split}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return str(folder)


def test_items_take_id_reference_emotion_and_turns_of_their_row(write, data):
    imported = read_import("empdg", write(EMPDG), data)
    replies = imported.replies
    assert replies.ids == ("hit:0#1", "hit:1#1")
    assert replies.texts == ("dear me !", "")
    assert replies.references == ("Feeling bad?", "Which one?")
    assert (replies.items[0].emotion, replies.items[0].turns) == ("guilty", ("I broke it.",))
    assert imported.unmapped == ()
    assert imported.hypotheses == ("Pred",)
    assert replies.name == "out"
    assert replies.notes == ("1 of 3 rows have no reply", "1 of 2 replies are empty")


def test_without_data_the_file_speaks_for_itself(write):
    replies = read_import("empdg", write(EMPDG)).replies
    assert replies.ids == ("0", "1")
    assert replies.references == ("feeling bad ?", "which one ?")
    assert replies.items[1].turns == ("it is gone .",)
    assert "no data set was given" in replies.notes[0]


def test_replies_are_in_the_order_of_the_data(write, data):
    first, second = EMPDG.split("emotion:")[1:]
    path = write(f"emotion:{second}emotion:{first}")
    assert read_import("empdg", path, data).replies.ids == ("hit:0#1", "hit:1#1")


def test_what_does_not_map_is_counted_and_named(write, data):
    path = write(EMPDG + "emotion:sad\nContext:['nobody said this']\nPred:a\nRef:b\n")
    imported = read_import("empdg", path, data)
    (lost,) = imported.unmapped
    assert (lost.row, lost.line, lost.beginning) == (2, 11, "nobody said this")
    assert "1 of 3 items answer no row of the data" in imported.replies.notes[0]
    assert "row 2 ('nobody said this')" in imported.replies.notes[0]
    assert imported.replies.notes[1].startswith("1 of 3 rows have no reply")


def test_one_hypothesis_is_chosen_and_said(write):
    path = write(MIME)
    assert read_import("mime", path).replies.texts == ("really ?",)
    imported = read_import("mime", path, hypothesis="Beam")
    assert imported.replies.texts == ("i see .",)
    assert imported.replies.name == "out:Beam"
    assert imported.replies.notes[0] == "the replies are those of Beam; the file has Topk, Beam, Greedy (--hypothesis)"
    assert imported.replies.source["hypothesis"] == "Beam"
    with pytest.raises(UnknownNameError) as caught:
        read_import("mime", path, hypothesis="greedy")
    assert caught.value.known == ("Topk", "Beam", "Greedy")


def test_predicted_emotions_become_feelings(write, data):
    assert [item.feeling for item in read_import("cem", write(CEM), data).replies.items] == [
        "ashamed, guilty, sad",
        "sad, lonely, afraid",
    ]
    assert read_import("mime", write(MIME)).replies.items[0].feeling == "terrified"


def test_gzip_is_read_directly(write):
    path = write(gzip.compress(EMPDG.encode()), "out.txt.gz")
    imported = read_import("empdg", path)
    assert len(imported.replies) == 2
    assert imported.replies.name == "out"
    assert len(imported.replies.source["sha256"]) == 64


def test_an_unknown_format_lists_the_known(write):
    with pytest.raises(UnknownNameError) as caught:
        read_import("moell", write(EMPDG))
    assert {"jsonl", "lines", "paper", "moel", "mime", "empdg", "kemp", "cem", "case", "seek"} < set(caught.value.known)
    assert {"emphi", "ec", "parlai"} < set(caught.value.known)


@pytest.mark.parametrize("format", ["jsonl", "lines", "paper", "moel", "mime", "kemp", "cem", "seek", "emphi", "ec"])
def test_a_file_in_another_format_says_which_it_looks_like(write, format):
    with pytest.raises(DataError, match=f"this looks like empdg, not {format}") as caught:
        read_import(format, write(EMPDG))
    assert caught.value.hint == "try --import empdg"


@pytest.mark.parametrize("format", ["cem", "case", "seek"])
def test_what_is_built_on_cem_is_written_like_cem(write, format):
    assert len(read_import(format, write(FILES["case"])).replies) == 2


def test_text_of_another_encoding_says_what_it_looks_like(write):
    with pytest.raises(DataError, match=r"out.txt, line 4: not valid UTF-8; this looks like empdg"):
        read_import("empdg", write(EMPDG.replace("dear", "très").encode("latin-1")))
    with pytest.raises(DataError, match=r"line 1: not valid UTF-8$"):
        read_import("lines", write("très".encode("latin-1")))


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
@pytest.mark.parametrize("format", ["lines", "jsonl", "cem"])
def test_an_empty_file_is_an_error(write, format, text):
    with pytest.raises(DataError, match="empty"):
        read_import(format, write(text))


def test_lines_are_taken_for_the_first_rows(write, data):
    replies = read_import("lines", write("Oh.\nAh.\n"), data).replies
    assert replies.ids == ("hit:0#1", "hit:1#1")
    assert replies.notes == ("1 of 3 rows have no reply; the replies are taken for those to the first rows",)


def test_ids_of_the_papers_files_are_rows(write, data):
    replies = read_import("paper", write("2 #*#*# Hey!\n0 #*#*# Oh.\n"), data).replies
    assert list(zip(replies.ids, replies.texts, strict=True)) == [("hit:0#1", "Oh."), ("hit:2#1", "Hey!")]
    assert replies.notes == ("1 of 3 rows have no reply",)


def test_more_replies_than_rows_are_an_error(write, data):
    with pytest.raises(DataError, match=r"replies for rows 0 to 4, and the data has 3 rows$"):
        read_import("lines", write("a\nb\nc\nd\ne\n"), data)
    with pytest.raises(DataError, match="these look like the valid rows"):
        read_import("paper", write("".join(f"{row} #*#*# a\n" for row in range(4))), data)


def test_another_split_is_named(write, data):
    blocks = [f"emotion:proud\nContext:['i won {word} .']\nPred:a\nRef:how {word} !\n" for word in ("two", "three")]
    with pytest.raises(DataError, match="these look like the valid rows: 2 of 2 match there, 0 in test"):
        read_import("empdg", write("".join(blocks)), data)


def test_another_data_set_is_an_error(write, data):
    with pytest.raises(DataError, match="none of 1 items is a row of"):
        read_import("empdg", write("emotion:sad\nContext:['x']\nPred:a\nRef:b\n"), data)


def test_our_own_lines_go_by_id(write, data):
    records = [{"id": "hit:1#1", "reply": "Oh."}, {"id": "hit:9#1", "reply": "Ah."}]
    imported = read_import("jsonl", write("\n".join(map(json.dumps, records)), "mine.jsonl"), data)
    assert imported.replies.ids == ("hit:1#1",)
    assert imported.replies.references == ("Which one?",)
    assert [str(lost) for lost in imported.unmapped] == ["row 1 ('hit:9#1')"]


def test_the_same_block_twice_is_left_out_once(write, data):
    imported = read_import("empdg", write(EMPDG + EMPDG), data)
    assert (len(imported.replies), len(imported.unmapped)) == (2, 2)
    assert "or one that is answered already" in imported.replies.notes[0]


def test_lists_of_several_systems(write, data):
    lists = {"moel": ["a", "b"], "empDG": ["c", "d"], "ref": ["eling bad ?", "which one ?"]}
    imported = read_import("empdg-json", write(json.dumps(lists), "models_result.json"), data)
    assert imported.replies.ids == ("hit:0#1", "hit:1#1")
    assert imported.replies.texts == ("c", "d")
    assert any("stripping" in note for note in imported.replies.notes)
    assert read_import("empdg-json", write(json.dumps(lists)), data, "moel").replies.texts == ("a", "b")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.txt"):
        read_import("lines", tmp_path / "nowhere.txt")
    with pytest.raises(DataError):
        read_import("lines", tmp_path)
