"""The paired t-test, which the paper reports for its Tables 2 and 4, and where its assumptions fail.

The test is over differences, one for each dialogue: the difference between the two systems' values. scipy provides the
distribution; it is installed for studies and optional for comparing runs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.metrics.pairing import FEW_ITEMS, ONE_DIALOGUE

ALIKE = "both are the same for every dialogue"
NO_VALUE = "some replies have no value"
SAME = "the difference is the same for every dialogue"
NO_SCIPY = "a t-test needs scipy: pip install 'localemp[study]'"

FEW = f"fewer than {FEW_ITEMS} dialogues"
TIED = "more than half of the differences are 0"
SKEWED = "too few for differences as skewed as these (Cochran's rule: more than 25 times the squared skewness)"

_EQUAL = 1e-9  # means are inexact: smaller differences are rounding errors


@dataclass(frozen=True, slots=True)
class TTest:
    """The result of a test of whether the mean difference is 0.

    Attributes:
        pairs: The number of differences.
        t, p: The statistic and the two-sided p-value; None without a test.
        zeros: The share of differences that are 0.
        skewness: Of the differences; None if they are all equal.
        doubts: Assumptions of the test that fail.
        reason: Why there is no test.
    """

    pairs: int
    t: float | None = None
    p: float | None = None
    zeros: float | None = None
    skewness: float | None = None
    doubts: tuple[str, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return asdict(self) | {"doubts": list(self.doubts)}


def paired_t(differences: Sequence[float] | NDArray[np.float64]) -> TTest:
    """Test differences, one for each pair."""
    values = np.asarray(differences, dtype=float)
    pairs = len(values)
    if pairs < 2:
        return TTest(pairs, reason=ONE_DIALOGUE)
    if not np.isfinite(values).all():
        return TTest(pairs, reason=NO_VALUE)
    zero = np.abs(values) < _EQUAL
    zeros = float(zero.mean())
    if np.ptp(values) < _EQUAL:
        return TTest(pairs, zeros=zeros, reason=ALIKE if zero.all() else SAME)
    spread = values - values.mean()
    skewness = float((spread**3).mean() / (spread**2).mean() ** 1.5)
    failing = {FEW: pairs < FEW_ITEMS, TIED: zeros > 0.5, SKEWED: pairs <= 25 * skewness**2}
    doubts = tuple(doubt for doubt, fails in failing.items() if fails)
    if find_spec("scipy") is None:
        return TTest(pairs, zeros=zeros, skewness=skewness, doubts=doubts, reason=NO_SCIPY)
    from scipy.stats import ttest_1samp

    test = ttest_1samp(values, 0)
    return TTest(pairs, float(test.statistic), float(test.pvalue), zeros, skewness, doubts)
