"""Statistics of judges: recovered where the bias is known, equal to other implementations, and where there are none."""

import sys
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import statsmodels.api as sm
from repository import REPOSITORY
from scipy.stats import pearsonr
from statsmodels.stats.inter_rater import cohens_kappa

sys.path.append(str(REPOSITORY / "benchmarks"))

from synthetic_judges import BIASED, OWN, TRIALS, SyntheticJudge, corrected, coverage, panel

from localemp.metrics.pairing import ONE_DIALOGUE
from localemp.studies.stats.bradley_terry import APART, LOST_ALL, NO_GROUP, WON_ALL, bradley_terry
from localemp.studies.stats.corrected_win_rates import NO_BETTER, NO_CALIBRATION, corrected_win_rates
from localemp.studies.stats.effective_judges import NO_UNIT, ONE_JUDGE, effective_judges
from localemp.studies.stats.intervals import FEW_DIALOGUES, Bootstrap
from localemp.studies.stats.judge_agreement import ALL_TIES, NO_ANSWER, NO_PREFERENCE, judge_agreement
from localemp.studies.stats.judge_bias import (
    NO_OWN,
    OWN_NEEDS_PEOPLE,
    PEOPLE_TIE,
    SAME_LENGTH,
    doublings,
    judge_bias,
)
from localemp.studies.stats.judged import NO_PEOPLE, JudgedRating, PairChoice, both_orders
from localemp.studies.stats.leniency import NO_RATING, PEOPLE_CONSTANT, leniency
from localemp.studies.stats.rating_bias import rating_bias
from localemp.studies.stats.regression import CONSTANT, ENTANGLED, SEPARATED, fit_linear, fit_logistic, logistic
from localemp.studies.stats.regression import NO_ANSWER as NOTHING
from localemp.studies.stats.standing import UNSEEN
from localemp.studies.stats.win_rates import SAME_DIFFERENCE, length_controlled_win_rates

FAST = Bootstrap(200)
TERMS = ("position", "length", "own", "quality")


def choice(share, people=None, first="a", second="b", lengths=(10, 20), dialogue="d0"):
    return PairChoice(dialogue, "Empathy", first, second, *lengths, share, people)


def rating(judge, people, dialogue="d0", system="a", length=9):
    return JudgedRating(dialogue, "", "Empathy", system, judge, tuple(people), length)


def duel(first, second, wins, losses):
    """A dialogue for every choice."""
    shares = [1.0] * wins + [0.0] * losses
    return [choice(share, None, first, second, dialogue=f"{first}{second}{at}") for at, share in enumerate(shares)]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.__name__)
def test_intervals_hold_what_synthetic_judges_were_made_with(trial):
    # Few pairs are answered by people where a rate is corrected, so that it takes many.
    dialogues, trials = (150, 150) if trial in (corrected, panel) else (40, 80)
    for held in coverage(trial, dialogues, trials, FAST, seed=5):
        # An uncorrected rate does not hold it, which is what the corrected ones are for.
        if "raw" in held.name or "not corrected" in held.name:
            assert held.holds < 0.9, held
        else:
            assert held.holds >= 0.87, held
            assert abs(held.off) < 0.15 * held.width, held


def test_regressions_are_those_of_statsmodels():
    draw = np.random.default_rng(1)
    design = np.column_stack([np.ones(80), draw.normal(size=(80, 2))])
    shares = draw.choice([0.0, 0.25, 0.5, 1.0], 80)
    weights = draw.integers(0, 4, (3, 80)).astype(float)
    for fit, family in ((fit_logistic, sm.families.Binomial()), (fit_linear, sm.families.Gaussian())):
        expected = [sm.GLM(shares, design, family=family, freq_weights=row).fit().params for row in weights]
        assert fit(design, shares, weights) == pytest.approx(np.array(expected), abs=1e-8)


def test_bias_is_the_glm_of_its_columns():
    choices = BIASED.choices(40, np.random.default_rng(2))
    found = judge_bias(choices, [OWN], FAST)
    people = np.array([2 * each.people - 1 for each in choices])
    mean = {
        system: np.mean(
            [p if each.first == system else -p for each, p in zip(choices, people, strict=True)
             if system in (each.first, each.second)]
        )
        for system in "abcd"
    }  # fmt: skip
    columns = [
        np.ones(len(choices)),
        doublings(choices),
        [(each.first == OWN) - (each.second == OWN) for each in choices],
        people,
        [mean[each.first] - mean[each.second] for each in choices],
    ]
    shares = [each.share for each in choices]
    expected = sm.GLM(shares, np.column_stack(columns), family=sm.families.Binomial()).fit().params
    assert [getattr(found, name).log_odds.value for name in TERMS] == pytest.approx(list(expected[:4]))
    assert found.length.share.value == pytest.approx(1 / (1 + np.exp(-expected[1])))
    low, high = found.length.log_odds.interval
    assert found.length.share.interval == pytest.approx(tuple(logistic(np.array([low, high]))))
    assert found.first.value == pytest.approx(np.mean(shares))
    assert found.standing and found.notes == []
    assert found.as_dict()["position"]["share"]["value"] == found.position.share.value


def test_the_same_seed_gives_the_same_intervals():
    choices = BIASED.choices(20, np.random.default_rng(3))
    assert judge_bias(choices, [OWN], FAST) == judge_bias(choices, [OWN], FAST)
    assert judge_bias(choices, [OWN], FAST) != judge_bias(choices, [OWN], Bootstrap(200, seed=1))


@pytest.mark.parametrize(
    ("choices", "own", "reasons"),
    [
        ([], [], {"position": NOTHING, "length": SAME_LENGTH, "own": NO_OWN}),
        ([choice(1.0, 1.0)] * 4, ["a"], dict.fromkeys(TERMS, CONSTANT)),
        ([choice(0.5), choice(0.5)], [], {"position": CONSTANT, "quality": NO_PEOPLE}),
        ([choice(1.0), choice(0.0), choice(1.0)], ["a"], {"own": OWN_NEEDS_PEOPLE, "quality": NO_PEOPLE}),
        ([choice(1.0, 0.5), choice(0.0, 0.5)], [], {"quality": PEOPLE_TIE, "own": NO_OWN, "length": ENTANGLED}),
        ([choice(1.0, lengths=(9, 9)), choice(0.0, lengths=(7, 7))], [], {"length": SAME_LENGTH}),
        ([choice(1.0, lengths=(20, 10)), choice(0.0)] * 5, [], {"position": SEPARATED, "length": SEPARATED}),
        ([choice(*each) for each in product((1.0, 0.0), repeat=2)], ["a"], {"position": ENTANGLED, "own": ENTANGLED}),
    ],
    ids=["none", "constant", "ties", "no-people", "people-tie", "same-length", "separated", "one-order"],
)
def test_bias_that_cannot_be_measured_says_why(choices, own, reasons):
    found = judge_bias(choices, own, FAST)
    told = {name: getattr(found, name).log_odds for name in reasons}
    assert {name: (each.value, each.reason) for name, each in told.items()} == {
        name: (None, reason) for name, reason in reasons.items()
    }


def test_few_choices_and_few_systems_are_noted():
    choices = [each for each in BIASED.choices(29, np.random.default_rng(4)) if {each.first, each.second} == {"a", OWN}]
    found = judge_bias(choices[:40], [OWN], FAST)
    assert UNSEEN in found.notes and FEW_DIALOGUES in found.notes
    assert any("rarer" in note for note in found.notes)


def test_length_controlled_rates_are_a_regression_at_equal_lengths():
    judge = SyntheticJudge(length=1.0, strength=1.0, bounded=True)
    choices = [each for each in judge.choices(50, np.random.default_rng(5)) if {each.first, each.second} == {"a", "b"}]
    rate, other = length_controlled_win_rates(choices, FAST)
    averaged = both_orders(choices)
    longer = np.array([each.first_length - each.second_length for each in averaged])
    design = np.column_stack([np.ones(len(averaged)), np.tanh(longer / longer.std(ddof=1))])
    shares = [each.share for each in averaged]
    strength, _ = sm.GLM(shares, design, family=sm.families.Binomial()).fit().params
    assert rate.controlled.value == pytest.approx(1 / (1 + np.exp(-strength)))
    assert rate.raw.value == pytest.approx(np.mean(shares))
    assert (rate.system, rate.against, rate.choices, rate.dialogues) == ("a", ("b",), 50, 50)
    assert other.controlled.value == pytest.approx(1 - rate.controlled.value)
    assert rate.words == pytest.approx(longer.mean()) == -other.words


def test_win_rates_without_a_length_effect_are_the_raw_ones():
    first = [choice(1.0, lengths=(9, 9), dialogue=f"d{at}") for at in range(40)]
    choices = first + [replace(each.turned(), share=share) for each, share in zip(first, [0.0, 1.0] * 20, strict=True)]
    rates = length_controlled_win_rates(choices, FAST)
    # The judge that takes what is first in one pair of two prefers neither place after both were averaged.
    assert [rate.raw.value for rate in rates] == pytest.approx([0.75, 0.25])
    assert [rate.controlled.value for rate in rates] == pytest.approx([0.75, 0.25])
    assert rates[0].controlled.interval == pytest.approx(rates[0].raw.interval)


def test_a_win_rate_that_cannot_be_controlled_names_the_opponents():
    always = [choice(1.0, lengths=(at, 9), dialogue=f"d{at}") for at in range(5)]
    longer = [choice(at % 2, None, "a", "c", (9, 5), dialogue=f"d{at}") for at in range(5)]
    found = length_controlled_win_rates(always + longer, FAST)[0]
    assert found.raw.value == pytest.approx((1 + 0.4) / 2)
    assert found.controlled.value is None
    assert found.controlled.reason == f"against b: {SEPARATED}; against c: {SAME_DIFFERENCE}"


def minorise(wins, steps=5000):
    """Hunter's (2004) algorithm, an independent one."""
    strengths, met = np.ones(len(wins)), wins + wins.T
    for _ in range(steps):
        strengths = wins.sum(axis=1) / (met / (strengths[:, None] + strengths)).sum(axis=1)
        strengths /= np.exp(np.log(strengths).mean())
    return np.log(strengths)


def test_strengths_are_those_of_another_algorithm_and_ties_are_half_wins():
    draw, systems, choices = np.random.default_rng(6), "abcd", []
    wins = np.zeros((4, 4))
    for at in range(200):
        one, other = draw.choice(4, 2, replace=False)
        share = draw.choice([0.0, 0.5, 1.0, 0.8])
        wins[one, other] += share
        wins[other, one] += 1 - share
        choices.append(choice(share, None, systems[one], systems[other], dialogue=f"d{at}"))
    found = {row.system: row for row in bradley_terry(choices, FAST)}
    expected = minorise(wins)
    assert [found[system].strength.value for system in systems] == pytest.approx(list(expected), abs=1e-6)
    assert found["a"].win.value == pytest.approx(1 / (1 + np.exp(-expected[0])))
    assert found["a"].won.value == pytest.approx(wins[0].sum() / (wins[0].sum() + wins[:, 0].sum()))
    assert found["a"].choices == found["a"].dialogues == sum("a" in (each.first, each.second) for each in choices)


def test_systems_without_a_finite_strength_say_why_and_leave_the_others_theirs():
    choices = [
        *duel("a", "b", 30, 10),
        *duel("best", "a", 5, 0),
        *duel("worst", "b", 0, 5),
        *duel("far", "away", 1, 0),
    ]
    found = {row.system: row.strength for row in bradley_terry(choices, FAST)}
    assert found["a"].value == pytest.approx(np.log(3) / 2) == -found["b"].value
    reasons = {system: strength.reason for system, strength in found.items() if strength.value is None}
    assert reasons == {"best": WON_ALL, "worst": LOST_ALL, "far": APART, "away": APART}
    assert [row.strength.reason for row in bradley_terry(duel("a", "b", 3, 0), FAST)] == [NO_GROUP] * 2
    assert bradley_terry([], FAST) == []


def test_both_orders_are_one_choice():
    (one,) = both_orders([choice(1.0, 0.75), choice(0.5, 0.25, "b", "a", (20, 10))])
    assert (one.first, one.first_length, one.share, one.people) == ("a", 10, 0.75, 0.75)


def test_agreement_by_hand_and_by_statsmodels():
    judge, people = [1, 1, 0.5, 0, 1, 0], [1, 0.75, 1, 0, 0.25, 0.5]
    choices = [choice(*each, dialogue=f"d{at}") for at, each in enumerate(zip(judge, people, strict=True))]
    found = judge_agreement(choices, FAST)
    assert (found.pairs, found.dialogues) == (6, 6)
    assert found.accuracy.value == pytest.approx((1 + 1 + 0.5 + 1 + 0) / 5)
    table = np.zeros((3, 3))
    for j, p in zip(np.sign(np.array(judge) - 0.5), np.sign(np.array(people) - 0.5), strict=True):
        table[int(j) + 1, int(p) + 1] += 1
        table[1 - int(j), 1 - int(p)] += 1
    assert found.kappa.value == pytest.approx(cohens_kappa(table).kappa)
    # Whatever a system is called.
    renamed = judge_agreement([replace(each, first="z") for each in choices], FAST)
    assert (renamed.tau_b.value, renamed.kappa.value) == pytest.approx((found.tau_b.value, found.kappa.value))


def test_agreement_that_cannot_be_measured_says_why():
    assert judge_agreement([choice(1.0)], FAST).accuracy.reason == NO_ANSWER
    tied = judge_agreement([choice(1.0, 0.5), choice(0.0, 0.5, dialogue="d1")], FAST)
    assert tied.accuracy.reason == NO_PREFERENCE
    assert tied.tau_b.reason == tied.spearman.reason == ALL_TIES
    alone = judge_agreement([choice(0.5, 0.5)], FAST)
    assert (alone.kappa.value, alone.kappa.reason) == (None, ALL_TIES)


def test_win_rates_are_corrected_by_hand():
    calibrated = [*[(1, 1)] * 8, *[(0, 1)] * 2, *[(0, 0)] * 6, *[(1, 0)] * 4]
    others = [(1, None)] * 14 + [(0, None)] * 6
    choices = [choice(*each, dialogue=f"d{at}") for at, each in enumerate([*calibrated, *others])]
    (rate,) = corrected_win_rates(choices, FAST)
    assert (rate.judged.value, rate.sensitivity.value, rate.specificity.value) == pytest.approx((0.65, 0.8, 0.6))
    assert rate.corrected.value == pytest.approx((0.65 + 0.6 - 1) / (0.8 + 0.6 - 1))
    assert (rate.pairs, rate.answered) == (40, 20)
    (own,) = corrected_win_rates(choices[:20], FAST)
    assert own.corrected.value == pytest.approx(0.5)  # what people said of the same pairs
    (contrary,) = corrected_win_rates([choice(1.0, 0.0), choice(0.0, 1.0, dialogue="d1")], FAST)
    assert (contrary.corrected.value, contrary.corrected.reason) == (None, NO_BETTER)
    (unknown,) = corrected_win_rates([choice(1.0), choice(0.0, dialogue="d1")], FAST)
    assert unknown.corrected.reason == unknown.sensitivity.reason == NO_CALIBRATION


def test_leniency_by_hand_on_two_scales():
    ratings = [
        rating(10, [3, 5]),
        rating(5, [1, 3], "d1"),
        rating(10, [4], "d2"),
        rating(0, [], "d3"),
    ]
    (found,) = leniency(ratings, (0, 10), (1, 5), FAST)
    assert (found.replies, found.dialogues) == (3, 3)
    assert (found.judge.value, found.people.value) == pytest.approx((2.5 / 3, (0.75 + 0.25 + 0.75) / 3))
    assert found.difference.value == pytest.approx(found.judge.value - found.people.value)
    single = np.array([0.5, 1, 0, 0.5, 0.75])
    assert found.spread.value == pytest.approx(np.std([1, 0.5, 1]) / single.std())
    assert (found.top.value, found.people_top.value) == pytest.approx((2 / 3, 1 / 5))


def test_ratings_without_people_or_spread_say_so():
    (unrated,) = leniency([rating(3, [])], (1, 5), (1, 5), FAST)
    assert (unrated.replies, unrated.difference.reason, unrated.spread.reason) == (0, NO_RATING, NO_RATING)
    (flat,) = leniency([rating(3, [2]), rating(4, [2], "d1")], (1, 5), (1, 5), FAST)
    assert (flat.spread.value, flat.spread.reason) == (None, PEOPLE_CONSTANT)
    (biased,) = rating_bias([rating(3, [])], ["a"], (1, 5), (1, 5), FAST)
    assert (biased.replies, biased.length.value, biased.own.value) == (0, None, None)


def test_rating_bias_is_least_squares():
    draw, ratings = np.random.default_rng(7), []
    for at in range(90):
        judge, people = float(draw.integers(1, 6)), draw.integers(0, 101, 3)
        ratings.append(rating(judge, people, f"d{at // 3}", "abc"[at % 3], float(draw.integers(1, 40))))
    (found,) = rating_bias(ratings, ["c"], (1, 5), (0, 100), FAST)
    people = np.array([np.mean(each.people) / 100 for each in ratings])
    mean = [people[at::3].mean() for at in range(3)]
    columns = [
        np.ones(90),
        np.log2([each.length for each in ratings]),
        [each.system == "c" for each in ratings],
        people,
        [mean[at % 3] for at in range(90)],
    ]
    judge = [(each.judge - 1) / 4 for each in ratings]
    expected = np.linalg.lstsq(np.column_stack(columns).astype(float), judge)[0]
    assert (found.length.value, found.own.value, found.quality.value) == pytest.approx(tuple(expected[1:4]))
    assert found.standing and found.notes == []
    (two,) = rating_bias([each for each in ratings if each.system != "a"], ["c"], (1, 5), (0, 100), FAST)
    assert not two.standing and UNSEEN in two.notes


def test_effective_judges_by_hand():
    draw = np.random.default_rng(8)
    answers, people = draw.normal(size=(3, 50)), draw.normal(size=50)
    dialogues = [f"d{at}" for at in range(50)]
    judges = dict(zip("xyz", answers, strict=True))
    for given, of, values in ((people, "errors", answers - people), (None, "answers", answers)):
        found = effective_judges(judges, given, dialogues, FAST)
        each = [pearsonr(values[a], values[b]).statistic for a, b in combinations(range(3), 2)]
        assert [one.value for one in found.correlations.values()] == pytest.approx(each)
        assert found.mean.value == pytest.approx(np.mean(each))
        assert found.effective.value == pytest.approx(3 / (1 + 2 * max(0, np.mean(each))))
        assert (found.of, found.units) == (of, 50)
    same = effective_judges({"x": answers[0], "y": answers[0]}, None, dialogues, FAST)
    assert same.effective.value == pytest.approx(1)


def test_judges_that_cannot_be_compared_say_why():
    answers = np.array([1.0, 0.0, np.nan])
    dialogues = ["d0", "d1", "d2"]
    assert effective_judges({"x": answers}, None, dialogues, FAST).effective.reason == ONE_JUDGE
    apart = effective_judges({"x": answers, "y": answers[::-1]}, None, dialogues, FAST)
    assert (apart.units, apart.effective.reason) == (1, NO_UNIT)
    flat = effective_judges({"x": answers, "y": np.ones(3)}, None, dialogues, FAST)
    assert flat.effective.reason == "the answers of y are all the same"


def test_one_dialogue_has_values_and_no_intervals():
    choices = BIASED.choices(1, np.random.default_rng(9))
    strengths = bradley_terry(choices, FAST)
    assert {row.won.reason for row in strengths} == {ONE_DIALOGUE}
    assert judge_bias(choices, [OWN], FAST).first.reason == ONE_DIALOGUE
