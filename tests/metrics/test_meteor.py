"""METEOR, against nltk's `meteor_score`."""

import random

import numpy as np
import pytest
from wordnet_here import nltks_reader, real_wordnet, small_files

from localemp.data.sources import load_dialogues
from localemp.errors import WeightsError
from localemp.metrics.meteor import Meteor, meteor
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.tokens import words
from localemp.metrics.wordnet import WordNet


def replies(*pairs):
    return Replies("system", tuple(Reply(str(number), *pair) for number, pair in enumerate(pairs)))


@pytest.fixture
def small():
    return Meteor(lambda: WordNet(small_files(), "0123456789abcdef0123"))


@pytest.mark.parametrize(
    ("reply", "reference", "value"),
    [
        # Every word in one block: P = R = 1, the penalty 0.5 / 3^3.
        ("oh dear me", "oh dear me", 1 - 0.5 / 27),
        # "my" and the stem of "dogs" in one block: P = 2/2, R = 2/4.
        ("my dogs", "my dog ran away", (1 - 0.5 / 8) * 0.5 / (0.9 + 0.1 * 0.5)),
        # A synonym, in the other place: two blocks of two words.
        ("pooch my", "my dog", (1 - 0.5) * 1),
        # "happi" is no word of WordNet, so its synonym is not found.
        ("happy", "glad", 0),
        ("oh", "no", 0),
        ("", "no", 0),
    ],
    ids=["equal", "stem", "synonym", "a stem has no synonym", "nothing", "empty"],
)
def test_values_by_hand(small, reply, reference, value):
    score = small.score(replies((reply, reference)))
    assert score.value == pytest.approx(100 * value)


def test_the_signature_says_what_it_was_made_with(small):
    told = str(small.score(replies(("a", "a"))).signature)
    assert (
        "|case:lower|stem:nltk Porter|alpha:0.9|beta:3.0|gamma:0.5|wordnet:3.0|wordnet_sha256:0123456789abcdef|" in told
    )


def test_without_wordnet_there_is_a_reason_and_one_attempt():
    tried = []

    def load():
        tried.append("")
        raise WeightsError("no WordNet", "get it")

    away = Meteor(load)
    from localemp.metrics.scoring import score_all

    for _ in range(2):
        (score,) = score_all(replies(("a", "a")), [away]).scores
        assert (score.value, score.reason) == (None, "no WordNet; get it")
    assert len(tried) == 1


def test_without_references_wordnet_is_not_needed():
    (score,) = [Meteor(lambda: pytest.fail("loaded")).score(replies(("a", "a"), ("b", None)))]
    assert (score.value, score.reason) == (None, "1 of 2 dialogues have no reference reply")


def test_equal_to_nltk_on_what_people_said_and_on_mixtures(tmp_path, monkeypatch):
    from nltk.translate.meteor_score import meteor_score

    ours, theirs = real_wordnet(), nltks_reader(tmp_path, monkeypatch)
    draw = random.Random(0)
    said = [turn for each in load_dialogues("samples", "test") for turn in each.turns]
    texts = [[word.lower() for word in words(turn)] for turn in said]
    every = sorted({word for text in texts for word in text})
    for text in texts:
        mixed = draw.sample(text, len(text)) + draw.choices(every, k=4)
        for reply, reference in ((text, draw.choice(texts)), (text, mixed), (mixed, text), (text, text * 2)):
            assert meteor(reply, reference, ours.synonyms) == meteor_score([reference], reply, wordnet=theirs)


def test_values_of_single_replies_are_averaged(small):
    statistics = small.statistics([replies(("oh dear me", "oh dear me"), ("oh", "no"))])
    assert statistics.value(np.array([0, 1, 1])) == pytest.approx(100 * (1 - 0.5 / 27) / 3)
