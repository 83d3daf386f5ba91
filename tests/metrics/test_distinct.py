import numpy as np
import pytest

from localemp.errors import OptionError
from localemp.metrics.distinct import Distinct
from localemp.metrics.replies import Replies, Reply


def replies(*texts, name="system"):
    return Replies(name, tuple(Reply(str(number), text) for number, text in enumerate(texts)))


@pytest.mark.parametrize(
    ("texts", "order", "expected"),
    [
        (["a b c"], 1, 100),
        (["a a a a"], 1, 25),
        (["a a a a"], 2, 100 / 3),
        (["a b", "a b"], 1, 50),
        (["a b", "b a"], 2, 100),  # an n-gram lies within one reply: "b b" is none
        (["a b", "", "a B"], 1, 75),  # case is kept
        (["Oh no.", "Oh yes."], 1, 100 * 4 / 6),
    ],
)
def test_distinct_over_total_of_the_whole_set(texts, order, expected):
    assert Distinct(order).score(replies(*texts)).value == pytest.approx(expected)


@pytest.mark.parametrize("texts", [[], [""], ["", " "], ["one", "two"]])
def test_a_set_without_such_ngrams_has_no_value_but_a_reason(texts):
    score = Distinct(2).score(replies(*texts))
    assert score.value is None
    assert score.reason == ("the replies have too few words" if texts else "no replies")


def test_value_of_any_choice_of_rows():
    statistics = Distinct(1).statistics([replies("a b", "a c", ""), replies("d d", "a", "e", name="other")])
    assert statistics.value(np.array([0, 0, 1])) == pytest.approx(100 * 3 / 6)  # a b c of a b a b a c
    assert statistics.value(np.array([3, 1, 5])) == pytest.approx(100 * 4 / 5)  # d a c e of d d a c e
    assert np.isnan(statistics.value(np.array([2])))
    assert np.isnan(statistics.value(np.array([], np.intp)))
    assert statistics.each(np.array([0])) is None


def test_random_choices_are_as_if_counted_anew():
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(list("abcdefgh"), draw.integers(0, 6))) for _ in range(40)]
    statistics = Distinct(2).statistics([replies(*texts)])
    for _ in range(20):
        rows = draw.integers(0, len(texts), 25)
        ngrams = [pair for row in rows for pair in zip(texts[row].split(), texts[row].split()[1:], strict=False)]
        assert statistics.value(rows) == pytest.approx(100 * len(set(ngrams)) / len(ngrams))


def test_systems_with_other_items_are_refused():
    with pytest.raises(OptionError, match="do not answer the same items"):
        Distinct(1).statistics([replies("a"), replies("a", "b", name="other")])


def test_the_signature_tells_order_and_tokens():
    signature = Distinct(2).score(replies("a b")).signature
    assert str(signature).startswith("dist-2|order:2|tokens:nltk word_tokenize|sentences:localemp-1|nltk:")
    assert signature.differences(Distinct(1).score(replies("a b")).signature) == {
        "metric": ("dist-2", "dist-1"),
        "order": (2, 1),
    }
