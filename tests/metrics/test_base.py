import numpy as np
import pytest

from localemp.errors import OptionError
from localemp.metrics.base import Metric, Score, Signature, Statistics, check_same_items
from localemp.metrics.replies import Replies, Reply


class Lengths(Statistics):
    def __init__(self, lengths):
        self.lengths = np.array(lengths, float)

    def value(self, rows):
        return float(self.lengths[rows].mean())


class Length(Metric):
    """The mean number of characters; none of empty replies."""

    name = "Length"

    def statistics(self, systems):
        return Lengths([len(text) or np.nan for system in systems for text in system.texts])

    def settings(self):
        return {"unit": "characters"}


def replies(*texts, name="system"):
    return Replies(name, tuple(Reply(str(n), text) for n, text in enumerate(texts)))


def test_a_score_carries_its_signature():
    score = Length().score(replies("ab", "abcd"))
    assert (score.name, score.value, score.reason, score.hidden) == ("Length", 3, "", False)
    assert str(score.signature).startswith("length|unit:characters|items:2|ids:")
    told = score.as_dict()
    assert (told["name"], told["value"], "reason" in told) == ("Length", 3, False)
    assert told["signature"]["unit"] == "characters"


@pytest.mark.parametrize(("texts", "reason"), [((), "no replies"), (("",), "the replies have too few words")])
def test_a_value_that_is_none_has_a_reason(texts, reason):
    score = Length().score(replies(*texts))
    assert (score.value, score.reason, score.as_dict()["reason"]) == (None, reason, reason)


def test_signatures_tell_what_they_do_not_have_in_common():
    one, same, other = (Length().score(replies(*texts)).signature for texts in (("a",), ("b",), ("a", "b")))
    assert one.differences(same) == {}
    assert set(one.differences(other)) == {"items", "items_sha256"}
    bare = Signature("length", (), 1, one.items_sha256)
    assert one.differences(bare) == {"unit": ("characters", None)}
    assert bare.differences(one) == {"unit": (None, "characters")}
    assert Score("Length", 1.0, one) == Score("Length", 1.0, same)


def test_systems_have_to_be_of_the_same_items():
    check_same_items([replies("a"), replies("b", name="other")])
    with pytest.raises(OptionError, match="system and other do not answer the same items"):
        check_same_items([replies("a"), replies("a", "b", name="other")])
