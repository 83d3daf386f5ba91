"""Self-BLEU against the quadratic definition by nltk, and by hand."""

import time

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from patience import patience

from localemp.data.sources import load_dialogues
from localemp.imports.reading import read_import
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.self_bleu import SelfBleu, bleu_against_others
from localemp.metrics.significance import depends_on_repetition
from localemp.metrics.tokens import words


def replies(*texts, name="system"):
    return Replies(name, tuple(Reply(str(number), text) for number, text in enumerate(texts)))


def by_definition(texts):
    """nltk's BLEU of every text against all others, as in the code of Zhu et al."""
    cut = [words(text) for text in texts]
    smoothing = SmoothingFunction().method1
    return [
        sentence_bleu(cut[:place] + cut[place + 1 :], one, (1 / 4,) * 4, smoothing) if one else 0.0
        for place, one in enumerate(cut)
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b c d", "a b c d"], [1, 1]),
        (["a b c d", "e f g h"], [0, 0]),
        (["a", "a", "b"], [0.1 ** (3 / 4), 0.1 ** (3 / 4), 0]),  # no n-gram: nltk takes 0.1 of 1
        # Unigrams 2 of 4 (only two of "a" are matched), bigrams 1 of 3, then none of 2 and of 1. Lengths 4 and 2.
        (
            ["a a a a", "a a"],
            [(2 / 4 * 1 / 3 * 0.1 / 2 * 0.1) ** (1 / 4), np.exp(1 - 4 / 2) * (0.1 * 0.1) ** (1 / 4)],
        ),
        # The closest other length of "a b c" is 2, the shorter of two as close: no penalty.
        (
            ["a b c", "a b", "a b c d"],
            [
                0.1 ** (1 / 4),
                np.exp(1 - 3 / 2) * (0.1 * 0.1) ** (1 / 4),
                (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** (1 / 4),
            ],
        ),
        (["", "", "a b"], [0, 0, 0]),
    ],
)
def test_by_hand(texts, expected):
    assert bleu_against_others(tuple(texts)) == pytest.approx(expected)
    assert by_definition(texts) == pytest.approx(expected)
    assert SelfBleu().score(replies(*texts)).value == pytest.approx(100 * np.mean(expected))


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_definition_on_random_texts(seed):
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(list("abcde"), draw.integers(0, 12))) for _ in range(40)]
    assert bleu_against_others(tuple(texts)) == pytest.approx(by_definition(texts), abs=1e-12)


def test_equal_to_the_definition_on_peoples_replies(shared_data):
    dialogues = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    texts = tuple(dialogue.reference for dialogue in dialogues[:300])
    assert bleu_against_others(texts) == pytest.approx(by_definition(texts), abs=1e-12)


# Computed with fast-bleu 0.0.90 (`SelfBLEU`, four equal weights) on these replies' words; it compares all pairs, as the
# definition does.
PUBLIC = {
    "moel": ("MoEL/generation_result.txt.gz", 97.88438992661631),
    "empdg": ("EmpDG/EmpDG.txt.gz", 91.42704678322093),
    "cem": ("CEM_ComFact/CEM_link.txt.gz", 97.8676341641351),
}


@pytest.mark.parametrize("system", PUBLIC)
def test_released_outputs_have_the_values_of_a_public_library(shared_data, system):
    file, expected = PUBLIC[system]
    outputs, data = shared_data / "baseline_outputs", str(shared_data / "empathetic_dialogues")
    released = read_import(system, outputs / file, data).replies
    assert SelfBleu().score(released).value == pytest.approx(expected, rel=1e-12)


def test_a_sample_is_of_the_same_values():
    """A reply that is drawn twice is not compared with its copy, and each system is compared with itself alone."""
    texts = ["a b c d e", "a b c d f", "g h i j"]
    statistics = SelfBleu().statistics([replies(*texts), replies("x", "x", "y", name="other")])
    each = 100 * np.concatenate([bleu_against_others(tuple(texts)), bleu_against_others(("x", "x", "y"))])
    assert statistics.value(np.array([0, 0, 5])) == pytest.approx(each[[0, 0, 5]].mean())
    assert statistics.each(np.arange(6)) == pytest.approx(each)
    assert not depends_on_repetition(statistics, 3)


@pytest.mark.parametrize(("texts", "reason"), [([], "no replies"), (["a b c"], "there is only one reply")])
def test_too_few_replies_have_a_reason(texts, reason):
    score = SelfBleu().score(replies(*texts))
    assert (score.value, score.reason) == (None, reason)


def test_time_is_linear_in_words():
    """The quadratic definition takes hours for these."""
    many = replies(*["I am so sorry to hear that."] * 20_000, " ".join(["so sorry"] * 50_000))
    start = time.perf_counter()
    value = SelfBleu().score(many).value
    assert 99 < value < 100
    assert time.perf_counter() - start < patience(20)


def test_the_signature_tells_order_smoothing_and_references():
    signature = str(SelfBleu().score(replies("a b", "a c")).signature)
    told = "self-bleu|order:4|references:all other replies|smooth:nltk method1|epsilon:0.1|tokens:nltk word_tokenize|"
    assert signature.startswith(told)
