"""EAD by hand, and by the public implementations' formula on the released outputs."""

from math import exp

import numpy as np
import pytest

from localemp.imports.reading import read_import
from localemp.metrics.distinct import Distinct
from localemp.metrics.ead import VOCABULARY, ExpectationAdjustedDistinct
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.significance import depends_on_repetition


def replies(*texts, name="system"):
    return Replies(name, tuple(Reply(str(number), text) for number, text in enumerate(texts)))


@pytest.mark.parametrize(
    ("texts", "order", "expected"),
    [
        (["a"], 1, 100),
        (["a b"], 1, 100 * 2 / (2 - 1 / VOCABULARY)),  # of two draws, one in V repeats the other
        (["a", "a"], 1, 100 * 1 / (2 - 1 / VOCABULARY)),
        (["a b", "", "b a"], 2, 100 * 2 / (2 - 1 / VOCABULARY)),
        (["a b a"], 2, 100 * 2 / (2 - 1 / VOCABULARY)),
    ],
)
def test_by_hand(texts, order, expected):
    assert ExpectationAdjustedDistinct(order).score(replies(*texts)).value == pytest.approx(expected, rel=1e-12)


def test_a_vocabulary_that_is_used_up_counts_as_the_whole():
    """A million words of one kind: nearly all of V is to be expected."""
    value = ExpectationAdjustedDistinct(1).score(replies("a " * 1_000_000)).value
    assert value == pytest.approx(100 / (VOCABULARY * (1 - exp(-1e6 / VOCABULARY))), rel=1e-3)


@pytest.mark.parametrize("texts", [[""], ["one", "two"]])
def test_without_such_ngrams_there_is_no_value(texts):
    assert ExpectationAdjustedDistinct(2).score(replies(*texts)).reason == "the replies have too few words"


def test_length_alone_changes_it_less_than_dist():
    """Words drawn from one distribution, in short and in long replies."""
    draw = np.random.default_rng(0)
    common = [f"w{number}" for number in range(20_000)]
    short, long = (replies(*(" ".join(draw.choice(common, size)) for _ in range(300))) for size in (5, 50))
    dist = [Distinct(1).score(each).value for each in (short, long)]
    ead = [ExpectationAdjustedDistinct(1).score(each).value for each in (short, long)]
    assert dist[1] / dist[0] < 0.8
    assert 0.8 < ead[1] / ead[0] < 1.1


def test_any_choice_of_rows_is_as_if_counted_anew():
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(list("abcdefgh"), draw.integers(1, 6))) for _ in range(40)]
    statistics = ExpectationAdjustedDistinct(1).statistics([replies(*texts)])
    for _ in range(20):
        rows = draw.integers(0, len(texts), 25)
        anew = ExpectationAdjustedDistinct(1).score(replies(*(texts[row] for row in rows))).value
        assert statistics.value(rows) == pytest.approx(anew, rel=1e-12)
    assert depends_on_repetition(statistics, len(texts))


def test_the_signature_tells_the_vocabulary():
    signature = str(ExpectationAdjustedDistinct(2).score(replies("a b")).signature)
    assert signature.startswith("ead-2|order:2|V:30522|tokens:nltk word_tokenize|sentences:localemp-1|nltk:")


# The formula in `ExpectationAdjustedDistinctNgrams` of facebookresearch/rlfh-gen-div (commit 333c80b), the code of Kirk
# et al. (2024), for the numbers of n-grams, all and distinct, of these replies' words and V = 30522.
PUBLIC = {
    "moel": (0.014085676737922574, 0.062194414105465244),
    "empdg": (0.02900186930650504, 0.1072752766540668),
    "cem": (0.013610640968202749, 0.05877368256413422),
}
FILES = {
    "moel": "MoEL/generation_result.txt.gz",
    "empdg": "EmpDG/EmpDG.txt.gz",
    "cem": "CEM_ComFact/CEM_link.txt.gz",
}


@pytest.mark.parametrize("system", PUBLIC)
def test_released_outputs_have_the_values_of_the_public_formula(shared_data, system):
    outputs, data = shared_data / "baseline_outputs", str(shared_data / "empathetic_dialogues")
    released = read_import(system, outputs / FILES[system], data).replies
    values = [ExpectationAdjustedDistinct(order).score(released).value / 100 for order in (1, 2)]
    assert values == pytest.approx(PUBLIC[system], rel=1e-10)
