"""Differences between two systems: p-values and intervals against what can be computed by hand, and by simulation."""

from itertools import product

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from localemp.errors import OptionError
from localemp.metrics.base import Metric, Statistics, check_same_items
from localemp.metrics.bleu import Bleu
from localemp.metrics.distinct import Distinct
from localemp.metrics.pairing import pair
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.significance import (
    BOOTSTRAP,
    JACKKNIFE,
    bootstrap_interval,
    chrf_of_each,
    compare,
    contrasts,
    depends_on_repetition,
    holm,
    jackknife_interval,
    randomisation_p,
)


class Values(Statistics):
    """The mean of a number of each reply."""

    def __init__(self, values):
        self.values = np.array(values, float)

    def value(self, rows):
        return float(self.values[rows].mean())

    def each(self, rows):
        return self.values[rows]


class Words(Statistics):
    """Distinct words over all, x100, of replies that are arrays of numbers."""

    def __init__(self, replies):
        self.replies = replies

    def value(self, rows):
        said = np.concatenate([self.replies[row] for row in rows])
        return 100 * np.count_nonzero(np.bincount(said)) / len(said) if len(said) else float("nan")


class Length(Metric):
    """Words a reply; replies that are empty have none."""

    name = "Length"

    def statistics(self, systems):
        check_same_items(systems)
        return Values([len(text.split()) or np.nan for system in systems for text in system.texts])

    def settings(self):
        return {"tokens": "spaces"}

    def missing(self, replies):
        return "no reference replies" if None in replies.references else ""


def replies(name, texts, references=None, ids=None):
    ids = ids or [f"d{number:04}" for number in range(len(texts))]
    references = references or ["Oh no."] * len(texts)
    items = (Reply(*item, turns=("Hi.",)) for item in zip(ids, texts, references, strict=True))
    return Replies(name, tuple(items))


def every_swap(statistics, items):
    """p by all swaps: how many are as large as what was seen."""
    rows = np.arange(items)
    seen = abs(statistics.value(rows + items) - statistics.value(rows))
    drawn = []
    for swap in product((0, 1), repeat=items):
        first = rows + items * np.array(swap)
        drawn.append(abs(statistics.value(first) - statistics.value(2 * rows + items - first)))
    return np.mean(np.array(drawn) >= seen - 1e-9)


@pytest.mark.parametrize(
    ("a", "b", "exact"),
    [
        ([0, 0, 0], [1, 1, 1], 2 / 8),  # only no swap and all swaps are as large
        ([0, 0, 0], [4, 1, 1], 2 / 8),  # |±4 ±1 ±1| = 6
        ([0, 0, 1], [4, 1, 0], 6 / 8),  # |4 + 1 - 1| = 4; smaller only 4 - 1 - 1 and its mirror image
        ([1, 0, 0], [0, 1, 0], 1),  # no difference
        ([5, 5, 5], [5, 5, 5], 1),
    ],
)
def test_p_is_near_that_of_every_swap(a, b, exact):
    statistics = Values([*a, *b])
    assert every_swap(statistics, 3) == exact
    assert randomisation_p(statistics, 3, 4000, 0) == pytest.approx(exact, abs=0.03)


def test_p_of_distinct_words_is_near_that_of_every_swap():
    told = [np.array(words) for words in ([1, 2, 3], [1, 1], [4, 4, 5], [1, 2], [6, 7], [8, 9, 10])]
    exact = every_swap(Words(told), 3)
    assert 0 < exact < 1
    assert randomisation_p(Words(told), 3, 4000, 1) == pytest.approx(exact, abs=0.03)


def test_p_is_never_nought_and_the_samples_bound_it():
    statistics = Values([0] * 50 + [1] * 50)
    assert randomisation_p(statistics, 50, 100, 0) == 1 / 101
    assert randomisation_p(statistics, 50, 1000, 0) == 1 / 1001


def test_the_interval_of_a_mean_is_as_wide_as_theory_has_it():
    """A mean of differences: 1.96 standard deviations over the root of n, by either method."""
    gaps = np.random.default_rng(3).normal(0.5, 2, 400)
    statistics = Values([*np.zeros(400), *gaps])
    reach = 1.96 * gaps.std(ddof=1) / 20
    for interval in (bootstrap_interval, jackknife_interval):
        low, high = interval(statistics, 400, 2000, 0)
        assert (low, high) == pytest.approx((gaps.mean() - reach, gaps.mean() + reach), abs=0.03)


def test_the_jackknife_of_a_mean_is_its_standard_error_and_hardly_changed_by_groups():
    gaps = np.random.default_rng(4).normal(0.5, 2, 1050)
    statistics = Values([*np.zeros(1050), *gaps])
    low, high = jackknife_interval(statistics, 1050, 2000, 0)
    error = gaps.std(ddof=1) / np.sqrt(1050)
    assert high - low == pytest.approx(2 * 1.959964 * error)
    grouped = jackknife_interval(statistics, 1050, 400, 0)  # 250 groups of 3, 150 of 2
    assert grouped[1] - grouped[0] == pytest.approx(high - low, rel=0.15)
    assert sum(grouped) == pytest.approx(low + high)


def test_the_jackknife_of_three_items_by_hand():
    """Words 1 2 | 1 3 | 4: 80 %. Without one: 100, 100, 75 (1 2 1 3). The other system says new words only: 100."""
    told = [np.array(words) for words in ([1, 2], [1, 3], [4], [11, 12], [13, 14], [15])]
    without = 100 - np.array([100, 100, 75])
    error = np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    low, high = jackknife_interval(Words(told), 3, 1000, 0)
    assert (low, high) == pytest.approx((20 - 1.959964 * error, 20 + 1.959964 * error))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([None]) == [None]


def test_which_metrics_mind_repetition():
    texts = replies("a", ["we are here", "so are we"]), replies("b", ["oh no", "you are not"])
    assert depends_on_repetition(Distinct(1).statistics(texts), 2)
    assert not depends_on_repetition(Bleu(2).statistics(texts), 2)
    assert not depends_on_repetition(Values([1, 2, 3, 4]), 2)


def test_the_same_replies_have_no_difference_and_a_p_of_one():
    texts = [f"so {number} it is" for number in range(40)]
    for one in compare(replies("a", texts), replies("b", texts), [Length(), Distinct(2), Bleu(2)], 200):
        assert (one.difference, one.p, one.p_holm, one.interval) == (0, 1, 1, (0, 0)), one.name


def test_a_clear_difference_has_a_small_p_and_an_interval_on_its_side():
    a = replies("a", ["i am so sorry to hear that"] * 60)
    b = replies("b", [f"what did number {number} say" for number in range(60)])
    length, distinct = compare(a, b, [Length(), Distinct(1)], 500, seed=2)
    assert (length.a, length.b, length.difference, length.interval_by) == (7, 5, -2, BOOTSTRAP)
    assert (length.interval, length.p, length.p_holm) == ((-2, -2), 1 / 501, 2 / 501)
    assert distinct.difference == pytest.approx(100 * 64 / 300 - 100 * 7 / 420)
    assert (distinct.interval_by, distinct.p) == (JACKKNIFE, 1 / 501)
    assert distinct.interval[0] > 0
    assert distinct.as_dict()["signature"]["items"] == 60


def test_single_replies_have_a_paired_t_test_and_sets_have_none():
    # Words fewer: 1, 2 and 3; mean 2, standard deviation 1.
    a = replies("a", ["we are here", "so are we now", "that is the way it is"])
    b = replies("b", ["oh no", "so be", "no no no"])
    length, distinct = compare(a, b, [Length(), Distinct(1)], 100)
    assert length.t_test.t == pytest.approx(-2 * 3**0.5)
    assert length.t_test.p == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert length.as_dict()["t_test"]["pairs"] == 3
    assert (distinct.t_test, distinct.as_dict()["t_test"]) == (None, None)


def test_the_same_seed_gives_the_same_whatever_the_order_and_the_other_metrics():
    generator = np.random.default_rng(5)
    said = [" ".join(generator.choice(list("abcdefgh"), generator.integers(1, 9))) for _ in range(100)]
    a, b = replies("a", said[:50], said[50:]), replies("b", said[50:], said[50:])
    metrics = [Length(), Distinct(2), Bleu(2)]
    told = [one.as_dict() for one in compare(a, b, metrics, 200, 7)]
    shuffled = Replies("b", tuple(b.items[place] for place in generator.permutation(50)))
    backwards = Replies("a", a.items[::-1])
    assert [one.as_dict() for one in compare(backwards, shuffled, metrics, 200, 7)] == told
    alone = compare(a, b, [Distinct(2)], 200, 7)[0].as_dict()
    assert alone | {"p_holm": 0} == told[1] | {"p_holm": 0}
    assert [one.as_dict() for one in compare(a, b, metrics, 200, 8)] != told


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (["one two"], ["three"], "one dialogue says nothing about chance"),
        (["", ""], ["so", "it is"], "a: the replies have too few words"),
        (["", ""], ["", ""], "a and b: the replies have too few words"),
        (["", "so it is"], ["we", ""], "some samples of these few replies have too few words"),
    ],
)
def test_a_degenerate_set_has_no_interval_and_says_why(a, b, reason):
    (one,) = compare(replies("a", a), replies("b", b), [Distinct(1)], 100)
    assert (one.interval, one.p, one.p_holm, one.reason) == (None, None, None, reason)
    assert one.as_dict()["reason"] == reason


def test_what_a_metric_misses_is_said_of_the_system_that_misses_it():
    a, b = replies("a", ["so", "it"]), replies("b", ["is", "now"], [None, None])
    assert compare(a, b, [Length()], 100)[0].reason == "b: no reference replies"
    assert compare(b, b, [Length()], 100)[0].reason == "no reference replies"


def test_common_items_alone_are_compared_and_it_is_said():
    a = replies("a", ["x"] * 4, ids=["d", "c", "b", "a"])
    b = replies("b", ["y", "z", "v"], ids=["b", "d", "e"])
    both = pair(a, b)
    assert (both.a.ids, both.b.ids, both.b.texts) == (("b", "d"), ("b", "d"), ("y", "z"))
    assert both.notes[0] == "on the 2 dialogues that are in both, of 4 and 3"
    assert "fewer than 30 dialogues" in both.notes[1]


def test_the_same_id_of_another_dialogue_is_left_out():
    a = replies("a", ["x"] * 40)
    other = ["Oh no.", *["oh no ."] * 38, "Who is that?"]
    both = pair(a, replies("b", ["y"] * 40, other))
    assert len(both.a) == 39
    assert both.notes == ("1 of them left out: the same id, but another dialogue or reference",)
    with pytest.raises(OptionError, match="belong to different dialogues"):
        pair(a, replies("b", ["y"] * 40, ["Who is that?"] * 40))


def test_nothing_in_common_says_what_ids_look_like():
    a, b = replies("a", ["x"] * 2, ids=["hit:0", "hit:1"]), replies("b", ["x"], ids=["7"])
    with pytest.raises(OptionError, match=r"a has 'hit:0', 'hit:1'; b has '7'"):
        compare(a, b, [Length()])
    with pytest.raises(OptionError, match="b has no replies"):
        pair(a, Replies("b", ()))
    with pytest.raises(OptionError, match="5 samples are too few"):
        compare(a, a, [Length()], 5)


def test_where_two_systems_differ_most():
    a = replies("a", ["what happened", "oh", "", "the same"], ["what happened", "no", "come here", None])
    b = replies("b", ["i am", "oh", "come", "other"], ["what happened", "no", "come here", None])
    both = pair(a, b)
    shown = contrasts(both, chrf_of_each(both), 5)
    assert [one.a.id for one in shown] == ["d0000", "d0002"]
    assert (shown[0].value_a, shown[1].value_a) == (pytest.approx(100), 0)
    assert shown[0].as_dict()["reference"] == "what happened"
    assert len(contrasts(both, chrf_of_each(both), 1)) == 1
    none = pair(replies("a", ["x"], [None]), replies("b", ["y"], [None]))
    assert chrf_of_each(none) is None


def test_p_for_bleu_is_that_of_sacrebleu(monkeypatch):
    """The same samples of the same generator: the very same p, as long as no swap ties with what was seen."""
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    generator = np.random.default_rng(6)
    vocabulary = np.array([f"w{number}" for number in range(30)])
    references = [" ".join(generator.choice(vocabulary, 9)) for _ in range(120)]

    def system(share):
        kept = (
            np.where(generator.random(9) < share, line.split(), generator.choice(vocabulary, 9)) for line in references
        )
        return [" ".join(words) for words in kept]

    first, second = system(0.45), system(0.5)
    (ours,) = compare(replies("a", first, references), replies("b", second, references), [Bleu(2)], 1000, 12345)
    bleu = BLEU(max_ngram_order=2, tokenize="none", smooth_method="none", force=True)
    named = [("a", first), ("b", second)]
    _, theirs = PairedTest(named, {"BLEU": bleu}, [references], "ar", n_samples=1000)()
    scores = theirs["BLEU"]
    assert (ours.a, ours.b) == pytest.approx((scores[0].score, scores[1].score))
    assert 0.001 < ours.p < 0.9
    assert ours.p == pytest.approx(scores[1].p_value, abs=0.002)


def talkers(seed, items, canned_b):
    """Two systems of one vocabulary, word frequencies as in language; a share of b's replies are canned ones."""
    generator = np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, 2001))
    said = [
        np.searchsorted(shares / shares[-1], generator.random(length))
        for length in generator.integers(4, 15, size=2 * items)
    ]
    for place in np.flatnonzero(generator.random(items) < canned_b):
        said[items + place] = np.arange(7) + 7 * generator.integers(3)
    return Words(said)


def test_of_distinct_the_jackknife_covers_what_a_bootstrap_misses():
    """The true difference is that of very many pairs of systems; 95 % of the intervals should hold it."""
    items, trials = 60, 100
    rows = np.arange(items)
    pairs = [talkers(10_000 + seed, items, 0.5) for seed in range(600)]
    true = np.mean([each.value(rows + items) - each.value(rows) for each in pairs])
    held = dict.fromkeys((jackknife_interval, bootstrap_interval), 0)
    for seed in range(trials):
        statistics = talkers(seed, items, 0.5)
        for interval in held:
            low, high = interval(statistics, items, 100, seed)
            held[interval] += low <= true <= high
    assert held[jackknife_interval] / trials > 0.88
    assert held[bootstrap_interval] / trials < 0.8


def test_of_systems_that_do_not_differ_about_one_in_twenty_is_told_apart():
    ps = [randomisation_p(talkers(seed, 40, 0), 40, 100, seed) for seed in range(200)]
    assert 0.005 <= np.mean(np.array(ps) <= 0.05) <= 0.1
    assert 0.4 < np.mean(ps) < 0.6
