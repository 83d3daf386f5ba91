import warnings

import numpy as np
import pytest
from nltk.translate.bleu_score import corpus_bleu
from sacrebleu.metrics.bleu import BLEU

from localemp.metrics.bleu import Bleu
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.tokens import words

PAIRS = [
    ("I am so sorry to hear that.", "I am sorry to hear that. What happened?"),
    ("That is great! Congrats on the new job.", "Congrats on your new job, that is great!"),
    ("Oh no, is your dog ok?", "Oh no! Is your Dog going to be ok?"),
    ("", "Nothing said."),
    ("Wow.", "Wow."),
]


# nltk counts one n-gram in a reply that has none of that length, sacrebleu counts none; elsewhere both agree.
LONG = PAIRS[:3]


def replies(pairs, name="system"):
    return Replies(name, tuple(Reply(str(number), text, reference) for number, (text, reference) in enumerate(pairs)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("view", ["", "lower"])
def test_equal_to_nltk(order, view):
    def cut(text):
        return [word.lower() for word in words(text)] if view else words(text)

    ours = Bleu(order, view).score(replies(LONG)).value
    references, hypotheses = [[cut(reference)] for _, reference in LONG], [cut(text) for text, _ in LONG]
    assert ours == pytest.approx(100 * corpus_bleu(references, hypotheses, weights=(1 / order,) * order), abs=1e-3)
    assert ours > 10


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    ("view", "options"),
    [("", {"tokenize": "none"}), ("lower", {"tokenize": "none", "lowercase": True}), ("13a", {"tokenize": "13a"})],
)
def test_equal_to_sacrebleu(order, view, options):
    def prepared(text):
        return text if view == "13a" else " ".join(words(text))

    peer = BLEU(max_ngram_order=order, smooth_method="none", force=True, **options)
    expected = peer.corpus_score([prepared(a) for a, _ in PAIRS], [[prepared(b) for _, b in PAIRS]]).score
    assert Bleu(order, view).score(replies(PAIRS)).value == pytest.approx(expected, abs=1e-9)


def test_a_value_by_hand():
    # Unigrams 2 of 3, bigrams 1 of 2, brevity penalty exp(1 - 4/3).
    score = Bleu(2).score(replies([("a b x", "a b c d")]))
    assert score.value == pytest.approx(100 * np.exp(1 - 4 / 3) * np.sqrt(2 / 3 * 1 / 2))


@pytest.mark.parametrize(
    ("pairs", "value", "reason"),
    [
        ([], None, "no replies"),
        ([("a", None)], None, "no reference replies"),
        ([("a", None), ("a", "a")], None, "1 of 2 dialogues have no reference reply"),
        ([("", "a b")], 0, ""),
        ([("a b", " ")], None, "no reference replies"),
        ([("a b", ""), ("a", "a")], None, "1 of 2 dialogues have no reference reply"),
        ([("a b c", "a b c")], 0, ""),  # no 4-gram at all, and nothing is smoothed
        ([("a b c d", "a b c d")], 100, ""),
    ],
)
def test_degenerate_sets(pairs, value, reason):
    score = Bleu(4).score(replies(pairs))
    assert (score.value, score.reason) == (pytest.approx(value) if value else value, reason)


def test_value_of_any_choice_of_rows_and_of_single_rows():
    a, b = replies(PAIRS), replies([(text.upper(), reference) for text, reference in PAIRS], name="upper")
    statistics = Bleu(2).statistics([a, b])
    rows = np.array([0, 6, 2, 2])
    chosen = replies([PAIRS[0], (PAIRS[1][0].upper(), PAIRS[1][1]), PAIRS[2], PAIRS[2]])
    assert statistics.value(rows) == pytest.approx(Bleu(2).score(chosen).value)
    alone = [Bleu(2).score(replies([pair])).value for pair in PAIRS]
    assert statistics.each(np.arange(5)) == pytest.approx(alone)
    assert Bleu(4).statistics([a]).each(np.arange(5)) is None
    assert statistics.value(np.array([], np.intp)) == 0


def test_signatures_hold_what_sacrebleus_leaves_out():
    two, four = (Bleu(order).score(replies(PAIRS)).signature for order in (2, 4))
    assert two.differences(four) == {"metric": ("b-2", "b-4"), "order": (2, 4)}
    assert "|smooth:none|sacrebleu:2" in str(two)
    lower = Bleu(2, "lower")
    assert (lower.name, lower.hidden, lower.settings()["case"]) == ("B-2 lower", True, "lower")
    assert Bleu(2, "13a").settings()["tokens"] == "13a"


def test_equal_to_nltk_on_real_replies(shared_data):
    from localemp.imports.reading import read_import

    file = shared_data / "baseline_outputs" / "CEM_ComFact" / "CEM_link.txt.gz"
    real = read_import("cem", file).replies
    references = [[words(reference)] for reference in real.references]
    hypotheses = [words(text) for text in real.texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for order in (2, 4):
            theirs = 100 * corpus_bleu(references, hypotheses, weights=(1 / order,) * order)
            assert Bleu(order).score(real).value == pytest.approx(theirs, abs=1e-3)
