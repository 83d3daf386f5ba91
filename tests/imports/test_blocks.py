"""Outputs made of blocks: each system's form, and what is wrong with damaged ones."""

from pathlib import Path

import pytest
from released_forms import CEM, EMPDG, EMPHI, FILES, KEMP, MIME, MOEL, SEEK

from localemp.errors import DataError
from localemp.imports.formats import FORMATS, looks_like


def read(name, text):
    return FORMATS[name].read(Path("file.txt"), text.removesuffix("\n").split("\n"))


def test_moel_has_four_hypotheses_and_texts_may_hold_colons_and_other_fields():
    first, second = read("moel", MOEL)
    assert first.context == ("i broke it .", "what ? it 's yours !", "no : not mine")
    assert first.replies == {
        "trs": "oh : no .",
        "trs+multitask": "ref: is what ?",
        "MOE": "i see .",
        "MOE+oracle": "MOE: is odd",
    }
    assert (first.reference, first.emotion, first.feeling, first.line) == ("why ?", "guilty", None, 1)
    assert (second.context, second.line) == (("it 's gone .",), 9)


def test_mime_has_three_decodings_and_the_predicted_emotion_on_the_first_line():
    (item,) = read("mime", MIME)
    assert item.replies == {"Topk": "oh , greedy !", "Beam": "i see .", "Greedy": "really ?"}
    assert (item.emotion, item.feeling, item.reference, item.line) == ("guilty", "terrified", "why ?", 4)


@pytest.mark.parametrize(("name", "text"), [("empdg", EMPDG), ("kemp", KEMP)])
def test_prefixes_are_taken_away_as_prefixes_and_not_as_characters(name, text):
    item = read(name, text)[0]
    assert item.replies == {"Pred": "dear me !"}
    assert (item.reference, item.emotion) == ("feeling bad ?", "guilty")


def test_an_empty_reply_is_kept():
    assert read("empdg", EMPDG)[1].replies == {"Pred": ""}


def test_cem_leaves_out_an_empty_beam_and_predicts_three_emotions():
    first, second = read("cem", CEM)
    assert first.replies == {"Beam": "eager beaver !", "Greedy": "great , greedy !"}
    assert second.replies == {"Beam": "", "Greedy": "oh !"}
    assert first.feeling == "ashamed, guilty, sad"


def test_seek_has_no_beam():
    assert read("seek", SEEK)[0].replies == {"Greedy": "oh !"}


def test_emphi_joins_turns_with_a_mark():
    (item,) = read("emphi", EMPHI)
    assert item.context == ("i broke it .", "why ?", "i was angry .")
    assert (item.replies, item.reference) == ({"Generated": "that is sad ."}, "you are right : it was .")


def test_predictions_of_another_decoding_in_empdgs_form():
    text = "emotion:sad \nContext:['hi'] \nGreedy:oh !  \nRef:what ? \n"
    assert read("empdg", text)[0].replies == {"Greedy": "oh !"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_looks_like_its_format(name):
    expected = "cem" if name in ("case", "seek") else name
    assert looks_like(FILES[name].split("\n")) == expected


def test_a_context_that_python_cannot_read_is_one_turn():
    item = read("empdg", "emotion:sad\nContext:['it 's gone']\nPred:a\nRef:b")[0]
    assert item.context == ("it 's gone",)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "no line begins with 'emotion:'"),
        ("Context:['hi']\nPred:a\nRef:b\n" + EMPDG, 1, "does not begin with 'emotion:'"),
        (EMPDG + "emotion:sad\nContext:['hi']\nPr", 13, "in no field: 'Pr'"),
        (EMPDG + "emotion:sad\nContext:['hi']\n", 11, "no 'Pred:' and no 'Ref:'"),
        (EMPDG.replace("Pred: \n", ""), 6, "no 'Pred:'"),
        (EMPDG.replace("emotion:sad \n", ""), 6, "a second 'Context:' in the block that begins in line 1"),
        ("emotion:sad\nContext:['hi']\nRef:b", 1, "no block holds a reply"),
        (EMPDG.replace("Ref:which", "which"), 10, "in no field: 'which one ?"),
    ],
)
def test_damaged_files_are_errors_with_the_line(text, line, message):
    with pytest.raises(DataError) as caught:
        read("empdg", text)
    assert message in caught.value.message
    assert caught.value.line == line
    assert caught.value.hint
