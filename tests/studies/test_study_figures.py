"""Figures of studies: recovered from raters whose parameters are known, computed by hand, and where there are none."""

import sys
from functools import partial

import krippendorff
import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr, ttest_rel
from simulated import VALUES, Raters, as_votes, judged, sheet
from small_study import small_study

from localemp.errors import LocalempError, RunError, UnknownNameError
from localemp.metrics.pairing import ONE_DIALOGUE
from localemp.metrics.replies import Replies
from localemp.metrics.replies import Reply as SystemReply
from localemp.metrics.ttest import SAME
from localemp.studies.answers import AnswerStore
from localemp.studies.attention_checks import check_results
from localemp.studies.collected_votes import read_votes
from localemp.studies.create import create_study
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.report.results import study_results
from localemp.studies.schema import Item, Key, Reply
from localemp.studies.stats.agreement import CONSTANT, NO_TWO, agreement, alpha_of
from localemp.studies.stats.correlation import correlations, kendall_of, spearman_of
from localemp.studies.stats.intervals import NO_VALUE, Bootstrap
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.stats.preferences import NO_VOTE, ONLY_TIES, preferences
from localemp.studies.stats.rater_bias import pooled_bias, rater_biases
from localemp.studies.stats.ratings import NO_RATING, NOT_BOTH, differences, means
from localemp.studies.study import Study
from localemp.studies.votes import Vote
from localemp.utils.extras import install_command

FAST = Bootstrap(300)


def held(intervals, truth):
    """Share of intervals that hold the truth."""
    return np.mean([low <= truth <= high for low, high in intervals])


def test_intervals_hold_the_parameters_of_simulated_raters(tmp_path):
    raters = Raters(win=0.62, tie=0.25, agree=0.7, first=0.2)
    draw, found, study = np.random.default_rng(5), {}, small_study(tmp_path, items=80, aspects=("Empathy",))
    for _ in range(200):
        values, ahead = raters.votes(80, draw)
        answers = sheet(values)
        votes, _ = preferences(answers, ["Empathy"], ["a vs. b"], FAST)
        agreed = agreement(answers, None, None, FAST)
        decided = values != 0
        firsts = pooled_bias(study, as_votes(study, values, "Empathy", ahead)).first
        assert firsts.value == pytest.approx(((values > 0) == ahead)[decided].mean())
        told = {"share": votes.by_dialogue, "wilson": votes.share, "alpha": agreed.alpha, "first": firsts}
        for name, estimate in told.items():
            found.setdefault(name, []).append(estimate.interval)
        found.setdefault("equal", []).append(agreed.equal.value)
    assert 0.91 <= held(found["share"], raters.share) <= 0.99
    assert 0.91 <= held(found["alpha"], raters.alpha) <= 0.99
    assert 0.91 <= held(found["first"], raters.first_share) <= 0.99
    assert np.mean(found["equal"]) == pytest.approx(raters.equal, abs=0.01)
    # What the notes beneath the table say: votes on one item are not independent.
    assert held(found["wilson"], raters.share) < 0.89


def test_intervals_of_rated_systems_hold_their_means_and_the_difference():
    draw, found = np.random.default_rng(6), {"mean": [], "difference": [], "p": []}
    for _ in range(200):
        dialogue, own = draw.normal(size=60), draw.normal(size=(2, 60))
        quality = np.stack([3 + dialogue + own[0], 3.4 + dialogue + own[1]])
        raters = quality + draw.normal(size=(3, 2, 60))
        rated = joined(sheet(raters[:, 0], group="a", ab=False), sheet(raters[:, 1], group="b", ab=False))
        found["mean"].append(means(rated, ["Empathy"], ["a", "b"], FAST)[1].mean.interval)
        (difference,) = differences(rated, ["Empathy"], ["a", "b"], FAST)
        found["difference"].append(difference.difference.interval)
        found["p"].append(difference.t_test.p)
    assert 0.91 <= held(found["mean"], 3.4) <= 0.99
    assert 0.91 <= held(found["difference"], -0.4) <= 0.99
    assert np.mean(np.array(found["p"]) < 0.05) > 0.4


def test_a_judge_like_a_person_reaches_what_people_reach():
    draw, found = np.random.default_rng(7), {"judge": [], "person": [], "sure": []}
    for _ in range(60):
        values, _ = Raters(win=0.5, agree=0.8, raters=4).votes(100, draw)
        people, judge = sheet(values[:3]), sheet(values[3:])
        (told,) = correlations(judge, people, ["Empathy"], ["a vs. b"], FAST)
        found["judge"].append(told.tau_b.value)
        found["person"].append(told.person_tau_b.value)
        found["sure"].append(told.tau_b.interval[0] > 0)
    # The judge has three people to go with, a person only two.
    assert np.mean(found["person"]) < np.mean(found["judge"]) < np.mean(found["person"]) + 0.12
    assert all(found["sure"])


def joined(*sheets):
    """Sheets of the same raters and dialogues as one."""
    return RatingMatrix(
        sheets[0].raters,
        tuple(unit for each in sheets for unit in each.units),
        np.concatenate([each.values for each in sheets], axis=1),
        sheets[0].ab,
    )


@pytest.mark.parametrize("many", [3, 40])
def test_samples_are_computed_as_the_libraries_would(many):
    draw = np.random.default_rng(many)
    x = draw.integers(many, size=50).astype(float)
    y = np.round((x + draw.integers(many, size=50)) / 2)
    counts = draw.multinomial(2, np.full(many, 1 / many), size=50).astype(float)
    counts[x > many / 2, 0] += 1
    weights = draw.multinomial(50, np.full(50, 1 / 50), size=20).astype(float)
    rows = [np.repeat(np.arange(50), often.astype(int)) for often in weights]
    assert spearman_of(x, y)(weights) == pytest.approx([spearmanr(x[i], y[i]).statistic for i in rows])
    assert kendall_of(x, y)(weights) == pytest.approx([kendalltau(x[i], y[i]).statistic for i in rows])
    alpha = partial(krippendorff.alpha, level_of_measurement="ordinal")
    assert alpha_of(counts)(weights) == pytest.approx([alpha(value_counts=counts[i].astype(int)) for i in rows])


def test_votes_and_majorities_by_hand():
    # Three raters; an item is a column: win, win, lose, split, tie, and a win by one vote alone.
    answers = sheet([[1, 1, -1, 1, 0, 1], [1, 0, -1, 0, 0, np.nan], [-1, 1, -1, -1, 1, np.nan]])
    votes, majorities = preferences(answers, ["Empathy"], ["a vs. b"], FAST)
    assert (votes.win, votes.lose, votes.tie, votes.total) == (7, 5, 4, 16)
    assert (majorities.win, majorities.lose, majorities.tie) == (3, 1, 2)
    assert votes.share.value == 7 / 12
    assert votes.share.interval == pytest.approx((0.3195, 0.8067), abs=1e-4)  # Wilson's formula by hand
    assert majorities.p == pytest.approx(10 / 16)  # 2 x (1 + 4) / 2^4
    assert votes.p == pytest.approx(2 * (1 + 12 + 66 + 220 + 495 + 792) / 2**12)
    # The t-test is over items: wins less losses among the votes on each, of which the last has one.
    means = np.array([1 / 3, 2 / 3, -1, 0, 1 / 3, 1])
    assert votes.t_test.t == pytest.approx(means.mean() / (means.std(ddof=1) / 6**0.5))
    choices = np.array([1, 1, -1, 0, 0, 1])  # mean 1/3, sum of squares 4 - 6/9, over 5 and 6: 1/9
    assert (majorities.t_test.t, majorities.t_test.pairs) == (pytest.approx(1), 6)
    assert majorities.t_test.t == pytest.approx(choices.mean() / (choices.std(ddof=1) / 6**0.5))


def test_ratings_by_hand():
    a = sheet([[1, 2, 3, 4], [3, 2, 3, np.nan]], group="a", ab=False)  # raters averaged: 2 2 3 4
    b = sheet([[4, 2, 5, 5], [4, 4, 4, np.nan]], group="b", ab=False)  # 4 3 4.5 5
    rated = joined(a, b)
    of_a, of_b = means(rated, ["Empathy"], ["a", "b"], FAST)
    assert (of_a.mean.value, of_b.mean.value, of_a.replies) == (2.75, 4.125, 4)
    (found,) = differences(rated, ["Empathy"], ["a", "b"], FAST)
    test = ttest_rel([2, 2, 3, 4], [4, 3, 4.5, 5])
    told = (found.difference.value, found.t_test.t, found.t_test.p)
    assert told == pytest.approx((-1.375, test.statistic, test.pvalue))
    assert found.t_test.t == pytest.approx(-1.375 / (np.std([2, 1, 1.5, 1], ddof=1) / 2))
    assert found.p_holm == found.t_test.p


def test_holms_correction_is_over_all_pairs_and_aspects():
    draw = np.random.default_rng(1)
    rated = joined(
        *(
            sheet(draw.integers(1, 6, (2, 20)) + shift, aspect, group, ab=False)
            for aspect in ("Empathy", "Fluency")
            for shift, group in enumerate("abc")
        )
    )
    found = differences(rated, ["Empathy", "Fluency"], list("abc"), FAST)
    assert len(found) == 6
    smallest = min(found, key=lambda each: each.t_test.p)
    assert smallest.p_holm == pytest.approx(min(1, 6 * smallest.t_test.p))


def test_agreement_by_hand():
    # Two raters, four items: three alike. Kappa: observed 3/4, by chance (5/8)^2 + (3/8)^2 = 34/64.
    found = agreement(sheet([[1, 1, -1, 1], [1, 1, -1, -1]]), None, None, FAST)
    assert found.equal.value == 0.75
    assert found.kappa.value == pytest.approx((3 / 4 - 34 / 64) / (1 - 34 / 64))
    # Alpha: 1 - (8 - 1) x 2 unlike ordered pairs / (2 x 5 x 3).
    assert found.alpha.value == pytest.approx(1 - 7 * 2 / 30)
    assert (found.units, found.raters, found.kappa_units) == (4, (2, 2), 4)


def test_a_rater_of_two_answers_hardly_moves_the_others_figures():
    rated = partial(sheet, ab=False)
    draw = np.random.default_rng(0)
    values = np.full((3, 100), np.nan)
    values[:2] = draw.integers(1, 6, (2, 100))
    two = agreement(rated(values[:2]), None, None, FAST).spearman.value
    (person,) = correlations(rated(values[:1]), rated(values[:2]), ["Empathy"], ["a vs. b"], FAST)
    values[2, :2] = 1, 5
    assert agreement(rated(values), None, None, FAST).spearman.value == pytest.approx(two, abs=0.05)
    (found,) = correlations(rated(values[:1]), rated(values), ["Empathy"], ["a vs. b"], FAST)
    assert found.person_spearman.value == pytest.approx(person.person_spearman.value, abs=0.06)
    assert found.person_spearman.highest < 0.5
    values[2, 1] = np.nan
    assert agreement(rated(values), None, None, FAST).spearman.value == pytest.approx(two, abs=0.05)


def test_kappa_is_of_items_with_the_usual_number_of_raters():
    answers = sheet([[1, 1, -1, 1, 0], [1, 0, -1, 1, 0], [1, 0, -1, np.nan, np.nan]])
    found = agreement(answers, None, None, FAST)
    assert (found.units, found.raters, found.kappa_units) == (5, (2, 3), 3)
    assert found.alpha.value == pytest.approx(krippendorff.alpha(answers.values, level_of_measurement="ordinal"))


def test_correlation_within_comparisons_is_none_where_all_of_it_is_between_them():
    """The paper's kind of pooling: people and judge prefer the same systems, and agree on no item of a comparison."""
    draw, groups = np.random.default_rng(3), ("a vs. b", "a vs. c")
    better, worse = ({"p": [0.2, 0.1, 0.7]}, {"p": [0.7, 0.1, 0.2]})
    people, judge = (
        joined(
            *(
                sheet(draw.choice(VALUES, 400, **chance), group=group)
                for group, chance in zip(groups, (better, worse), strict=True)
            )
        )
        for _ in range(2)
    )
    pooled, *within = correlations(judge, people, ["Empathy"], groups, FAST)
    assert pooled.tau_b.interval[0] > 0.15
    assert all(each.tau_b.interval[0] < 0 < each.tau_b.interval[1] for each in within)
    assert pooled.tau_b.value == pytest.approx(kendalltau(judge.combined(), people.combined()).statistic)


def test_nothing_is_said_where_there_is_nothing_to_say():
    ties = sheet(np.zeros((3, 5)))
    (votes, majorities) = preferences(ties, ["Empathy"], ["a vs. b"], FAST)
    assert (votes.tie, votes.share.value, votes.share.reason, votes.p) == (15, None, ONLY_TIES, None)
    assert majorities.by_dialogue.reason == ONLY_TIES
    found = agreement(ties, None, None, FAST)
    assert (found.alpha.reason, found.kappa.reason, found.equal.value) == (CONSTANT, CONSTANT, 1.0)
    assert found.spearman.reason == "one rater's and another's answers are all the same"
    wins = sheet(np.ones((2, 5)))
    (votes, _) = preferences(wins, ["Empathy"], ["a vs. b"], FAST)
    assert (votes.share.value, votes.by_dialogue.interval, votes.p) == (1.0, (1.0, 1.0), 2 * 0.5**10)
    (missing,) = preferences(wins, ["Fluency"], ["a vs. b"], FAST)
    assert (missing.total, missing.share.reason) == (0, NO_VOTE)
    assert agreement(sheet([[1, 0, -1]]), None, None, FAST).alpha.reason == NO_TWO
    assert agreement(wins, "Fluency", None, FAST).equal.reason == NO_TWO
    (only,) = preferences(sheet([[1.0]]), ["Empathy"], ["a vs. b"], FAST)
    assert (only.share.value, only.by_dialogue.interval, only.by_dialogue.reason) == (1.0, None, ONE_DIALOGUE)


def test_ratings_without_spread_have_no_test():
    same = joined(sheet([[1, 2, 3]], group="a", ab=False), sheet([[2, 3, 4]], group="b", ab=False))
    (found,) = differences(same, ["Empathy"], ["a", "b"], FAST)
    assert (found.difference.value, found.t_test.p, found.t_test.reason) == (-1.0, None, SAME)
    assert found.difference.interval == (-1.0, -1.0)
    (one,) = differences(same.only(), ["Empathy"], ["a", "c"], FAST)
    assert one.t_test.reason == NOT_BOTH
    assert means(same, ["Empathy"], ["c"], FAST)[0].mean.reason == NO_RATING
    alone = joined(sheet([[1]], group="a", ab=False), sheet([[2]], group="b", ab=False))
    (found,) = differences(alone, ["Empathy"], ["a", "b"], FAST)
    assert (found.t_test.reason, found.difference.reason) == (ONE_DIALOGUE, ONE_DIALOGUE)


def test_correlation_with_a_constant_or_absent_side_says_which():
    people = sheet([[1, 0, -1, 1], [1, 0, -1, 0]])
    told = {
        "the judge's answers are all the same": sheet([[1, 1, 1, 1]]),
        "only one answer in common": sheet([[np.nan, np.nan, np.nan, 1]]),
        "no answer in common": sheet([[np.nan] * 4]),
    }
    for reason, judge in told.items():
        (found,) = correlations(judge, people, ["Empathy"], ["a vs. b"], FAST)
        assert (found.spearman.value, found.tau_b.value, found.tau_b.reason) == (None, None, reason)
    (found,) = correlations(people, sheet(np.zeros((2, 4))), ["Empathy"], ["a vs. b"], FAST)
    assert found.tau_b.reason == "people's answers are all the same"
    assert found.person_tau_b.value is None
    (found,) = correlations(sheet([[1, 0, 0, 0]]), people, ["Empathy"], ["a vs. b"], FAST)
    assert found.tau_b.value is not None
    assert found.tau_b.reason == NO_VALUE  # one item decides, and a third of the samples lacks it


def test_items_of_one_dialogue_are_drawn_together():
    apart = sheet(np.tile([1.0, -1.0], 20)[np.newaxis])
    pairs = RatingMatrix(
        apart.raters,
        tuple(
            type(unit)(unit.aspect, unit.item, unit.reply, f"d{number // 2}", unit.group)
            for number, unit in enumerate(apart.units)
        ),
        apart.values,
        True,
    )
    assert preferences(apart, ["Empathy"], ["a vs. b"], FAST)[0].by_dialogue.interval != (0.5, 0.5)
    assert preferences(pairs, ["Empathy"], ["a vs. b"], FAST)[0].by_dialogue.interval == (0.5, 0.5)


def test_choices_are_unblinded_whatever_the_order_of_replies(tmp_path):
    """Three systems, blinded by `create_study`; everybody prefers c to a, and a to b."""
    ids = [f"d{number}" for number in range(8)]
    systems = [
        Replies(name, tuple(SystemReply(i, f"{name} to {i}", turns=(f"Hello {i}.",)) for i in ids), {})
        for name in "abc"
    ]
    study, _ = create_study(tmp_path / "study", systems, "ab", load_questionnaire(None), sample=5, checks=1)
    rank = {"c": 0, "a": 1, "b": 2, None: 3}  # the attention check last: it is missed
    votes = [
        Vote(who, item.id, aspect.name, min(item.replies, key=lambda reply: rank[study.key.systems.get(reply.key)]).key)
        for who in ("ann", "bob")
        for item in study.items
        for aspect in study.manifest.aspects
    ]
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    answers.put_all(votes)
    answers.close()
    figures = study_results(study)
    told = {
        each.comparison: (each.win, each.lose) for each in figures.opinions[0].preferences if each.aspect == "Empathy"
    }
    assert told == {"a vs. b": (5, 0), "a vs. c": (0, 5), "b vs. c": (0, 5)}  # majorities, which come after the votes
    assert (figures.items, len({unit.dialogue for unit in RatingMatrix.of(study, votes).units})) == (15, 5)
    assert [each.group for each in figures.agreements] == [None] * 4 + list(told)


def with_checks(folder, kind="ab"):
    """A study of two items and two attention checks."""
    scale = None if kind == "ab" else (1, 5)
    small = small_study(folder / "first", kind, items=2, aspects=("Empathy",))
    item = [
        Item(
            id=f"c{n}",
            turns=("Hello.",),
            replies=(Reply(key=f"c{n}-0", text="Choose me."), Reply(key=f"c{n}-1", text="No.")),
        )
        for n in (0, 1)
    ]
    expected = (
        {"c0": {"Empathy": "c0-0"}, "c1": {"Empathy": "c1-0"}}
        if kind == "ab"
        else {"c0": {"Empathy": [1]}, "c1": {"Empathy": [1, 2]}}
    )
    key = small.key.model_copy(update={"checks": expected})
    manifest = small.manifest.model_dump(exclude={"items_sha256", "key_sha256", "aspects", "scale"})
    return Study.write(
        folder / "checked",
        [*small.items, *item],
        Key(**key.model_dump()),
        **manifest,
        aspects=small.manifest.aspects,
        scale=scale,
    )


def test_raters_who_fail_checks_are_reported_and_left_out_where_asked(tmp_path):
    study = with_checks(tmp_path)
    said = {
        "ann": ("k0-0", "k1-0", "c0-0", "c1-0"),
        "bob": ("k0-0", "k1-1", "c0-1", "c1-0"),
        "cleo": ("k0-1", "tie", "c0-0"),
    }
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    answers.put_all(
        [
            Vote(who, item, "Empathy", value)
            for who, told in said.items()
            for item, value in zip(("i0", "i1", "c0", "c1"), told, strict=False)
        ]
    )
    answers.close()
    assert [(each.rater, each.missed, each.of, each.failed) for each in check_results(study, read_votes(study))] == [
        ("ann", 0, 2, False),
        ("bob", 1, 2, True),
        ("cleo", 0, 1, False),
    ]
    everyone, careful = study_results(study), study_results(study, drop_failed=True)
    assert [everyone.opinions[0].preferences[0].total, careful.opinions[0].preferences[0].total] == [6, 4]
    assert (everyone.dropped, careful.dropped) == ([], ["bob"])
    assert everyone.items == 2
    assert {each.rater: each.answers for each in everyone.rater_biases} == {"people": 6, "ann": 2, "bob": 2, "cleo": 2}
    rated = with_checks(tmp_path / "rated", "rating")
    told = [
        Vote("ann", "c1", "Empathy", 2, "c1-0"),
        Vote("ann", "c1", "Empathy", 3, "c1-1"),
        Vote("ann", "c0", "Empathy", 1, "c0-0"),
    ]
    assert [(each.missed, each.of) for each in check_results(rated, told)] == [(1, 2)]


def test_a_person_and_an_imported_rater_of_one_name_are_two(tmp_path):
    study = small_study(tmp_path, items=1, aspects=("Empathy",))
    votes = [Vote("ann", "i0", "Empathy", "k0-0"), Vote("ann", "i0", "Empathy", "k0-1", kind="import")]
    assert RatingMatrix.of(study, votes).values.tolist() == [[1.0], [-1.0]]
    assert [each.kind for each in rater_biases(study, votes)] == ["person", "import"]


def test_a_judges_missing_answers_are_missing_and_its_bias_is_reported(tmp_path):
    study = small_study(tmp_path / "study", items=30, systems=("plain", "twostage"))
    draw = np.random.default_rng(0)
    opinions = {aspect.name: draw.choice(VALUES, 30) for aspect in study.manifest.aspects}
    answers = AnswerStore(study.folder / "answers.sqlite", study)
    for aspect, values in opinions.items():
        answers.put_all(as_votes(study, np.tile(values, (2, 1)), aspect))
    answers.close()
    judged(study, "like-people", lambda item, aspect: None if item == 29 else opinions[aspect][item], flips=6)
    judged(study, "other", lambda item, aspect: 1.0)
    figures = study_results(study)
    people, first, other = figures.opinions
    assert (people.raters, first.judge.missing, first.judge.flips, first.items) == (2, 3, 18, 29)
    whole = first.correlations[-1]
    assert (whole.aspect, whole.units) == (None, 87)
    assert whole.tau_b.value > 0.7 and whole.person_tau_b.value == pytest.approx(1)
    assert other.correlations[0].tau_b.reason == "the judge's answers are all the same"
    assert [each.who for each in study_results(study, judges=["other"]).opinions] == ["people", "other"]
    with pytest.raises(UnknownNameError, match="unknown judge 'none'"):
        study_results(study, judges=["none"])
    (study.folder / "judges" / "other").rename(tmp_path / "other")
    strange = small_study(tmp_path / "strange", items=2)
    (strange.folder / "judges").mkdir()
    (tmp_path / "other").rename(strange.folder / "judges" / "other")
    with pytest.raises(RunError, match="does not belong to this study: unknown item 'i2'"):
        read_votes(strange)


def test_a_study_without_answers_or_packages_is_an_error(tmp_path, monkeypatch):
    study = small_study(tmp_path)
    with pytest.raises(RunError, match="no answers yet"):
        study_results(study)
    monkeypatch.setitem(sys.modules, "krippendorff", None)  # as if it were not installed
    with pytest.raises(LocalempError, match="needs krippendorff, not installed") as raised:
        study_results(study)
    assert raised.value.hint == install_command("study")
