"""Power of studies: the closed form against the report's own tests on simulated raters, known values, and limits."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest, nct, t
from simulated import Raters, sheet

from localemp.errors import OptionError
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.stats.pilot import pilot_figures
from localemp.studies.stats.power import (
    Design,
    dialogues_needed,
    majority_power,
    smallest_effect,
    t_test_power,
)
from localemp.studies.stats.preferences import preferences
from localemp.studies.stats.ratings import differences

ONCE = Bootstrap(1)

# Design, effect, dialogues: the rows of the table in docs/studies.md, in its order.
SIMULATED = (
    (Design(raters=3, ties=0.2, agreement=0.25), 0.1, 312),
    (Design(raters=3, ties=0.2, agreement=0.25), 0.1, 100),
    (Design(raters=3, ties=0.0, agreement=0.1), 0.17, 100),
    (Design(raters=1, ties=0.2, agreement=0.0), 0.2, 150),
    (Design(raters=5, ties=0.4, agreement=0.6), 0.2, 100),
    (Design(raters=3, ties=0.2, agreement=0.25), 0.3, 30),
    (Design("rating", raters=3, agreement=0.15, sd=1.0), 0.3, 85),
    (Design("rating", raters=5, agreement=0.5, sd=1.0), 0.3, 100),
    (Design("rating", raters=1, agreement=0.0, sd=25.0), 10.0, 60),
)


def named(setting):
    design, effect, dialogues = setting
    spread = f"{design.ties}-ties" if design.kind == "ab" else f"sd-{design.sd}"
    return f"{design.kind}-{effect}-of-{dialogues}-by-{design.raters}-{spread}-agree-{design.agreement}"


def rated(design, effect, dialogues, draw, steps=False):
    """Ratings of two systems; with `steps` they are whole numbers from 1 to 5."""
    own = np.sqrt(design.agreement) * draw.normal(size=(2, 1, dialogues))
    values = own + np.sqrt(1 - design.agreement) * draw.normal(size=(2, design.raters, dialogues))
    values = 3 + design.sd * values + np.array([effect, 0])[:, None, None]
    return both(np.clip(np.round(values), 1, 5) if steps else values)


def both(values):
    one, other = (sheet(each, group=name, ab=False) for each, name in zip(values, ("a", "b"), strict=True))
    return replace(one, units=one.units + other.units, values=np.concatenate([one.values, other.values], axis=1))


def voters(design, effect):
    """Raters with this share of ties, agreement and effect."""
    decided = 1 - design.ties
    win = (1 + effect / decided) / 2
    return Raters(win=win, tie=design.ties, agree=design.agreement**0.5, raters=design.raters)


def simulated(design, effect, dialogues, studies, draw):
    """Share of studies in which the report's tests are significant: the t-test, and that of majorities."""
    found = []
    for _ in range(studies):
        if design.kind == "rating":
            (told,) = differences(rated(design, effect, dialogues, draw), ["Empathy"], ["a", "b"], ONCE)
            found.append((told.t_test.p, 1.0))
        else:
            votes, _ = voters(design, effect).votes(dialogues, draw)
            told = preferences(sheet(votes), ["Empathy"], ["a vs. b"], ONCE)
            found.append((told[0].t_test.p, told[-1].p))
    return (np.array(found) < design.alpha).mean(axis=0)


@pytest.mark.parametrize("setting", SIMULATED, ids=named)
def test_power_is_that_of_simulated_studies(setting):
    check(setting, studies=300, within=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SIMULATED, ids=named)
def test_power_is_that_of_many_simulated_studies(setting):
    """With `-s` it prints the rows of the table in docs/studies.md."""
    check(setting, studies=4000, within=0.025)


def check(setting, studies, within):
    design, effect, dialogues = setting
    found, majorities = simulated(*setting, studies, np.random.default_rng(19))
    computed = t_test_power(*setting)
    assert found == pytest.approx(computed, abs=within)
    spread = f"{design.ties:.0%} ties" if design.kind == "ab" else f"sd {design.sd:g}"
    row = f"| {design.kind} | {effect:g} | {dialogues} | {design.raters} | {spread} | {design.agreement:g} "
    row += f"| {computed:.1%} | {found:.1%} |"
    if design.kind == "ab":
        exact = majority_power(*setting)
        assert majorities == pytest.approx(exact, abs=within)
        row += f" {exact:.1%} | {majorities:.1%} |"
    print(row.replace("%", " %"))


def test_without_a_difference_the_power_is_the_level():
    design = Design(agreement=0.25, tests=5)
    assert t_test_power(design, 1e-12, 100) == pytest.approx(0.01)
    assert majority_power(replace(design, tests=1), 0, 400) == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("dialogues", [2, 10, 100, 5000, 10**6])
@pytest.mark.parametrize("effect", [1e-6, 0.003, 0.1, 0.5, 0.79])
def test_the_t_tests_power_is_scipys(dialogues, effect):
    design = Design(raters=2, ties=0.2, agreement=0.5)
    shift = effect * (dialogues / ((0.8 - effect**2) * 0.75)) ** 0.5
    bound = t.ppf(0.975, dialogues - 1)
    # NaN is an underflow, of the side that is not to be expected.
    expected = np.nansum([nct.sf(bound, dialogues - 1, shift), nct.cdf(-bound, dialogues - 1, shift)])
    assert t_test_power(design, effect, dialogues) == pytest.approx(expected, abs=1e-9)


def test_the_number_of_dialogues_of_a_textbook():
    # One rater without ties on a scale whose difference has the spread 1: 34 pairs for a medium effect of 0.5
    # (Cohen 1988, two-sided 0.05, power 0.8).
    assert dialogues_needed(Design("rating", raters=1, agreement=0, sd=0.5**0.5), 0.5) == 34


def test_the_power_of_majorities_by_hand():
    # One rater, no ties: each dialogue is won with 0.75, and of 6 dialogues all have to be alike: 2 / 2^6 < 0.05.
    one = Design(raters=1, ties=0.0, agreement=0.0)
    assert majority_power(one, 0.5, 6) == pytest.approx(0.75**6 + 0.25**6)
    assert majority_power(one, 0.5, 5) == 0
    # Two raters tie unless they agree. With full agreement there is one vote.
    two = Design(raters=2, ties=0.0, agreement=0.0)
    won, lost = 0.75**2, 0.25**2
    assert majority_power(two, 0.5, 6) == pytest.approx(won**6 + lost**6)
    same = Design(raters=7, ties=0.3, agreement=0.999_999_999)
    assert majority_power(same, 0.2, 80) == pytest.approx(majority_power(replace(same, raters=1), 0.2, 80), abs=1e-3)


def test_significant_majorities_are_those_of_scipy():
    for dialogues in (6, 9, 23, 60):
        exact = sum(
            comb(dialogues, k) * 0.7**k * 0.3 ** (dialogues - k)
            for k in range(dialogues + 1)
            if binomtest(k, dialogues).pvalue <= 0.05
        )
        assert majority_power(Design(raters=1, ties=0.0, agreement=0.0), 0.4, dialogues) == pytest.approx(exact)


def test_size_and_effect_are_inverse():
    for design in (Design(), Design(raters=1, ties=0.5), Design("rating", raters=2, sd=20, tests=7)):
        for effect in (0.02, 0.1, 0.4):
            effect *= design.sd
            dialogues = dialogues_needed(design, effect)
            assert t_test_power(design, effect, dialogues) >= 0.8
            if dialogues > 2:
                assert t_test_power(design, effect, dialogues - 1) < 0.8
            found = smallest_effect(design, dialogues)
            assert found <= effect
            assert t_test_power(design, found, dialogues) == pytest.approx(0.8)


def test_more_raters_and_less_agreement_need_fewer_dialogues():
    sizes = [dialogues_needed(Design(raters=raters), 0.1) for raters in (1, 2, 3, 5, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    # However many raters: what dialogues differ by stays.
    assert sizes[-1] > 0.25 * sizes[0]
    sizes = [dialogues_needed(Design(agreement=agreement), 0.1) for agreement in (0, 0.1, 0.5, 0.9)]
    assert sizes == sorted(sizes)


def test_what_no_size_finds_is_none():
    assert dialogues_needed(Design(), 1e-4) is None
    assert dialogues_needed(Design(), 0.002) > 700_000
    assert smallest_effect(Design(), 2) is None
    assert smallest_effect(Design("rating"), 1) is None
    assert t_test_power(Design(), 0.1, 1) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"raters": 0}, "--raters 0"),
        ({"raters": 1001}, "--raters 1001"),
        ({"ties": 1}, "--ties 1"),
        ({"ties": -0.1}, "--ties -0.1"),
        ({"agreement": 1.0}, "--agreement 1"),
        ({"agreement": -0.1}, "--agreement -0.1"),
        ({"agreement": float("nan")}, "--agreement nan"),
        ({"sd": 0}, "--sd 0"),
        ({"sd": float("inf")}, "--sd inf"),
        ({"alpha": 0}, "--alpha 0"),
        ({"alpha": 1}, "--alpha 1"),
        ({"tests": 0}, "--tests 0"),
    ],
)
def test_impossible_designs_are_named(values, message):
    with pytest.raises(OptionError, match=message) as caught:
        Design(**values)
    assert caught.value.hint.startswith("give ")


def test_a_pilot_gives_back_what_was_simulated():
    draw = np.random.default_rng(3)
    design = Design(raters=3, ties=0.3, agreement=0.36)
    votes, _ = voters(design, 0.2).votes(4000, draw)
    found = pilot_figures(sheet(votes))
    assert (found.dialogues, found.answers, found.sd, found.paired) == (4000, 12000, None, False)
    assert found.ties == pytest.approx(0.3, abs=0.02)
    assert found.agreement == pytest.approx(0.36, abs=0.03)
    told = pilot_figures(rated(Design("rating", agreement=0.36, sd=12), 5, 4000, draw))
    assert (told.ties, told.paired) == (None, True)
    assert told.agreement == pytest.approx(0.36, abs=0.03)
    assert told.sd == pytest.approx(12, rel=0.03)


def test_what_two_replies_have_in_common_is_left_out_of_the_spread():
    draw = np.random.default_rng(4)
    sheets = rated(Design("rating", agreement=0.3, sd=1), 0, 4000, draw)
    easy = np.tile(3 * draw.normal(size=4000), 2)  # a dialogue that is easy to answer is so for both systems
    assert pilot_figures(replace(sheets, values=sheets.values + easy)).sd == pytest.approx(1, rel=0.03)
    # Raters of one system alone: each reply counts by itself.
    apart = np.full((6, 8000), np.nan)
    apart[:3, :4000], apart[3:, 4000:] = np.split(sheets.values, 2, axis=1)
    found = pilot_figures(replace(sheets, raters=tuple("abcdef"), values=apart))
    assert not found.paired
    assert (found.sd, found.agreement) == (pytest.approx(1, rel=0.03), pytest.approx(0.3, abs=0.03))


def test_ratings_in_whole_numbers_are_planned_by_a_pilot():
    draw = np.random.default_rng(5)
    assumed = Design("rating", agreement=0.3, sd=1.0)
    pilot = pilot_figures(rated(assumed, 0.4, 5000, draw, steps=True))
    p = [
        differences(rated(assumed, 0.4, 60, draw, steps=True), ["Empathy"], ["a", "b"], ONCE)[0].t_test.p
        for _ in range(400)
    ]
    planned = t_test_power(replace(assumed, agreement=pilot.agreement, sd=pilot.sd), 0.4, 60)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(planned, abs=0.07)


@pytest.mark.parametrize(
    ("values", "agreement", "sd"),
    [
        ([[1, -1, 0, 1]], None, None),  # one rater
        ([[1], [0]], None, None),  # one dialogue
        ([[1, 1, 1], [1, 1, 1]], None, None),  # always the same
        ([[1, -1, 0], [1, -1, 0]], 1.0, None),
        ([[1, -1, 1], [-1, 1, -1]], 0.0, None),  # they contradict each other
    ],
    ids=["one rater", "one dialogue", "constant", "equal", "opposite"],
)
def test_small_pilots_say_what_they_can(values, agreement, sd):
    found = pilot_figures(sheet(values))
    assert (found.agreement, found.sd) == (agreement, sd)


def test_the_agreement_of_a_pilot_by_hand():
    # Two raters; means of dialogues are 1, -1 and 1/2: between them 2 (25 + 49 + 4) / 36 / 2 = 13/6, within (1/2) / 3.
    # Dialogues share (13/6 - 1/6) / 2 = 1 of 1 + 1/6.
    assert pilot_figures(sheet([[1, -1, 1], [1, -1, 0]])).agreement == pytest.approx(6 / 7)
