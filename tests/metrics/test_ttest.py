"""The paired t-test against values computed by hand, and where it says that it cannot be trusted."""

import json
import sys

import numpy as np
import pytest
from scipy.stats import ttest_rel

from localemp.metrics.pairing import ONE_DIALOGUE
from localemp.metrics.ttest import ALIKE, FEW, NO_SCIPY, NO_VALUE, SAME, SKEWED, TIED, paired_t


@pytest.mark.parametrize(
    ("differences", "t", "p"),
    [
        # Two: mean 1, standard deviation the root of 2. One degree of freedom: p = 1 - 2 / pi x arctan(t).
        ([0, 2], 1, 1 - 2 / np.pi * np.arctan(1)),
        # Three: mean 2, standard deviation 1. Two degrees of freedom: p = 1 - t / root of (t^2 + 2).
        ([1, 2, 3], 2 * 3**0.5, 1 - 12**0.5 / 14**0.5),
        ([-1, -2, -3], -2 * 3**0.5, 1 - 12**0.5 / 14**0.5),
        # Five: mean 0.4, sum of squares 2 - 5 x 0.16 = 1.2, variance 0.3, so t = 0.4 / root of (0.3 / 5).
        ([0, 0, 0, 1, 1], 0.4 / 0.06**0.5, None),
    ],
)
def test_t_and_p_by_hand(differences, t, p):
    found = paired_t(differences)
    assert (found.pairs, found.t, found.reason) == (len(differences), pytest.approx(t), "")
    if p is not None:
        assert found.p == pytest.approx(p)


def test_it_is_scipys_test_of_pairs():
    draw = np.random.default_rng(4)
    a, b = draw.normal(size=(2, 50))
    theirs = ttest_rel(a, b)
    found = paired_t(a - b)
    assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ([], ONE_DIALOGUE),
        ([3.0], ONE_DIALOGUE),
        ([0.0] * 40, ALIKE),
        ([0.5] * 40, SAME),
        ([1 / 3, 1 - 2 / 3, 0.1 + 0.2 - 0.3 + 1 / 3], SAME),  # the same but for rounding
        ([1.0, float("nan")], NO_VALUE),
    ],
)
def test_there_is_none_without_spread(differences, reason):
    found = paired_t(differences)
    assert (found.t, found.p, found.doubts, found.reason) == (None, None, (), reason)
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("differences", "doubts"),
    [
        ([-1.0, 1.0] * 15, ()),
        ([-1.0, 1.0] * 14 + [0.0], (FEW,)),
        ([-1.0, 1.0] * 15 + [0.0] * 30, ()),  # exactly half of them
        ([-1.0, 1.0] * 15 + [0.0] * 31, (TIED,)),
        # One in five is 1, none else: skewness (1 - 2 x 0.2) / root of (0.2 x 0.8) = 1.5, and 25 x 1.5^2 = 56.25.
        (([1.0] + [0.1] * 4) * 11, (SKEWED,)),
        (([1.0] + [0.1] * 4) * 12, ()),
        ([9.0] + [0.0] * 19, (FEW, TIED, SKEWED)),
    ],
)
def test_where_its_assumptions_fail_is_said(differences, doubts):
    assert paired_t(differences).doubts == doubts


def test_skewness_by_hand():
    found = paired_t([1.0] + [0.0] * 4)
    assert (found.zeros, found.skewness) == (0.8, pytest.approx(1.5))


def test_without_scipy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)  # as if it were not installed
    found = paired_t([1.0, 2.0, 3.0])
    assert (found.t, found.p, found.reason, found.doubts) == (None, None, NO_SCIPY, (FEW,))


def test_of_differences_that_are_none_about_one_in_twenty_is_told_apart():
    draw = np.random.default_rng(8)
    told = [paired_t(draw.choice([-1.0, 0.0, 1.0], 100)).p < 0.05 for _ in range(600)]
    assert 0.03 < np.mean(told) < 0.075
