"""ROUGE-L, against values of the package rouge-score."""

import random

import numpy as np
import pytest

from localemp.metrics.replies import Replies, Reply
from localemp.metrics.rouge import RougeL, common_subsequence

# A reply, its reference, and `RougeScorer(["rougeL"]).score(reference, reply)["rougeL"].fmeasure` of rouge-score 0.1.2.
PAIRS = [
    ("I am so sorry to hear that.", "I am sorry to hear that. What happened?", 0.7999999999999999),
    ("That is great! Congrats on the new job.", "Congrats on your new job, that is great!", 0.5),
    ("Oh no, is your dog ok?", "Oh no! Is your Dog going to be ok?", 0.8),
    ("Don't worry, it'll be 100% fine -- naïve café", "don t worry it will be 100 fine, naive cafe", 2 / 3),
    ("", "Nothing said.", 0),
    ("...", "Wow.", 0),
    ("Wow.", "Wow.", 1),
    ("a b a b c", "b a b a a c c", 2 / 3),
]


def replies(pairs):
    return Replies("system", tuple(Reply(str(number), *pair) for number, pair in enumerate(pairs)))


def test_equal_to_rouge_score():
    each = RougeL().statistics([replies([pair[:2] for pair in PAIRS])]).each(np.arange(len(PAIRS)))
    assert each == pytest.approx([100 * pair[2] for pair in PAIRS], abs=1e-12)


def test_a_value_by_hand():
    # "i am to hear" in common: 4 of 5 words and 4 of 6, F1 = 8/11. The other reply has nothing in common.
    score = RougeL().score(replies([("I am glad to hear!", "I am so sorry to hear."), ("Yes.", "No.")]))
    assert score.value == pytest.approx(100 * (8 / 11) / 2)
    assert str(score.signature).startswith("rouge-l|tokens:rouge-score|case:lower|stem:none|value:mean F1|items:2|")


def test_the_longest_common_subsequence_is_that_of_the_usual_table():
    draw = random.Random(0)

    def table(first, second):
        row = [0] * (len(second) + 1)
        for word in first:
            before = row[:]
            for place, other in enumerate(second):
                row[place + 1] = before[place] + 1 if word == other else max(before[place + 1], row[place])
        return row[-1]

    for _ in range(300):
        first, second = (draw.choices("abcd", k=draw.randrange(80)) for _ in range(2))
        assert common_subsequence(first, second) == table(first, second)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([], "no replies"),
        ([("a", None)], "no reference replies"),
        ([("a", " "), ("a", "a")], "1 of 2 dialogues have no reference reply"),
    ],
    ids=["no reply", "no reference", "an empty one"],
)
def test_without_references_there_is_no_value(pairs, reason):
    score = RougeL().score(replies(pairs))
    assert (score.value, score.reason) == (None, reason)
