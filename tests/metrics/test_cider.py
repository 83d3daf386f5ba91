"""CIDEr-D, against values of the package pycocoevalcap."""

import math

import numpy as np
import pytest

from localemp.metrics.cider import Cider, cider, lower_words
from localemp.metrics.replies import Replies, Reply

# A reply, its reference, and the value in `Cider().compute_score(references, replies)` of pycocoevalcap 1.2 on all.
PAIRS = [
    ("i am so sorry to hear that", "i am sorry to hear that what happened", 4.588468378170964),
    ("that is great congrats on the new job", "congrats on your new job that is great", 3.35140837948589),
    ("oh no is your dog ok", "oh no is your dog going to be ok", 5.465845473462663),
    ("that that that is so so great", "that is great", 0.7623930290085177),
    ("", "nothing said", 0),
    ("wow", "wow", 2.5),
    ("i am", "i am so happy for you that is great news", 0.6301555728031082),
]


def replies(pairs):
    return Replies("system", tuple(Reply(str(number), *pair) for number, pair in enumerate(pairs)))


def test_equal_to_pycocoevalcap():
    found = cider([pair[0].split() for pair in PAIRS], [pair[1].split() for pair in PAIRS])
    assert found == pytest.approx([pair[2] for pair in PAIRS], abs=1e-12)
    assert Cider().score(replies([pair[:2] for pair in PAIRS])).value == pytest.approx(100 * found.mean())


def test_a_value_by_hand():
    # Two references: "oh" is in both, idf 0; "no", "yes" and "oh no" are in one or none, idf log 2.
    # Reply 1: "no" and "oh no" have a cosine of 1, and the lengths are equal. Reply 2: nothing in common that counts.
    score = Cider().score(replies([("Oh no!", "Oh, no..."), ("Oh no.", "Oh yes.")]))
    assert score.value == pytest.approx(100 * 10 * (1 + 1) / 4 / 2)


def test_a_difference_in_length_costs():
    # The word "wow" alone would have a cosine of 1 / sqrt(1 + 4); two bigrams more cost exp(-4 / 72).
    values = cider([["wow", "yes", "yes"], ["so"]], [["wow"], ["so", "what"]])
    assert values[0] == pytest.approx(10 / 4 / math.sqrt(5) * math.exp(-4 / 72))


def test_words_are_in_lower_case_and_without_punctuation():
    assert lower_words('Oh no!! "Really"? It\'s 5 % ...') == ["oh", "no", "really", "it", "'s", "5"]


def test_document_frequencies_stay_those_of_all_items():
    statistics = Cider().statistics([replies([pair[:2] for pair in PAIRS])])
    rows = np.array([0, 2, 2, 5])
    assert statistics.value(rows) == pytest.approx(statistics.each(np.arange(len(PAIRS)))[rows].mean())
    assert "|df:these references|" in str(Cider().score(replies([("a", "a")])).signature)


@pytest.mark.parametrize(
    ("pairs", "value", "reason"),
    [
        ([], None, "no replies"),
        ([("a", None)], None, "no reference replies"),
        ([("a", ""), ("a", "a")], None, "1 of 2 dialogues have no reference reply"),
        ([("a b", "a b")], 0, ""),
        ([("", "a"), ("...", "b")], 0, ""),
    ],
    ids=["no reply", "no reference", "an empty one", "one item", "empty replies"],
)
def test_degenerate_sets(pairs, value, reason):
    score = Cider().score(replies(pairs))
    assert (score.value, score.reason) == (value, reason)
