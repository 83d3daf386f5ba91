"""Ratings from spreadsheets: every form that the documentation names, and mistakes with their line."""

import pytest
from small_study import small_study

from localemp.errors import DataError
from localemp.studies.importing import read_ratings
from localemp.studies.votes import Vote


def vote(item: str, aspect: str, value: str | int, reply: str = "", rater: str = "ann") -> Vote:
    return Vote(rater, item, aspect, value, reply, kind="import")


@pytest.mark.parametrize(
    ("text", "votes"),
    [
        (
            "rater,item,aspect,value\nann,i0,Empathy,k0-1\nann,i1,Coherence,Tie\n",
            [vote("i0", "Empathy", "k0-1"), vote("i1", "Coherence", "tie")],
        ),
        (
            "dialogue\tEmpathy\tCoherence\trater\nd2\ttwostage\t\tann\nd3\tequal\tplain\tann\n",
            [vote("i2", "Empathy", "k2-1"), vote("i3", "Empathy", "tie"), vote("i3", "Coherence", "k3-0")],
        ),
    ],
)
def test_preferences_are_read(tmp_path, text, votes):
    file = tmp_path / "ratings.csv"
    file.write_text(text)
    assert read_ratings(file, small_study(tmp_path / "s")) == votes


def test_numbers_are_read_by_reply_or_system_and_columns_may_have_other_names(tmp_path):
    study, file = small_study(tmp_path / "s", "rating"), tmp_path / "ratings.csv"
    file.write_text("rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4\nann,i0,k0-0,Empathy,2.0\n")
    expected = [vote("i0", "Empathy", 4, "k0-1"), vote("i0", "Empathy", 2, "k0-0")]
    assert read_ratings(file, study) == expected
    file.write_text("who,dialogue,model,warm\nann,d0,twostage,4\nann,d0,plain,2\n")
    renamed = {"rater": "who", "system": "model", "Empathy": "warm"}
    assert read_ratings(file, study, renamed) == expected


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "rating",
            "rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4\nann,i0,k0-0,Empathy,6\n",
            "line 3: .*6 is no rating",
        ),
        ("rating", "rater,item,reply,aspect,value\nann,i0,k0-1,Empathy,4.5\n", "line 2: .*'4.5' is no rating"),
        ("rating", "rater,item,reply,aspect,value\nann,i0,k1-1,Empathy,4\n", "line 2: .*unknown reply 'k1-1'"),
        ("rating", "rater,item,Empathy\nann,i0,4\n", "line 2: .*unknown reply ''"),
        ("ab", "rater,item,aspect,value\nann,i9,Empathy,tie\n", "line 2: unknown item 'i9'"),
        ("ab", "rater,item,aspect,value\nann,i0,Warmth,tie\n", "line 2: .*unknown aspect 'Warmth'"),
        ("ab", "rater,item,aspect,value\nann,i0,Empathy,third\n", "line 2: .*'third' is no answer"),
        ("ab", "rater,item,aspect,value\n,i0,Empathy,tie\n", "line 2: no rater"),
        ("ab", "rater,dialogue,aspect,value\nann,d99,Empathy,tie\n", "line 2: no item of the dialogue 'd99'"),
        ("ab", "rater,item,aspect,value\n" + 2 * "ann,i0,Empathy,tie\n", "line 3: .*in line 2 already"),
        ("ab", "rater,item\nann,i0\n", "line 1: needs columns aspect and value, or some of Empathy"),
        ("ab", "item,aspect,value\n", "line 1: needs columns rater"),
        ("ab", "rater,item,aspect,value\n", "no rating in it"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_nothing_is_taken(tmp_path, kind, text, message):
    file = tmp_path / "ratings.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ratings(file, small_study(tmp_path / "s", kind))
