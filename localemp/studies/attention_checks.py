"""The attention checks of a study: which raters answered them, and how many each missed.

`create.py` adds them to a study; their texts are in `prompts/study.toml`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from localemp.studies.study import Study
from localemp.studies.votes import RaterKind, Vote


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A rater's result on the attention checks.

    Attributes:
        rater: The name.
        kind: A person, a judge, or an imported file.
        missed: Checks answered wrongly.
        of: Checks that the rater answered.
    """

    rater: str
    kind: RaterKind
    missed: int
    of: int

    @property
    def failed(self) -> bool:
        """Whether half or more of the checks were missed."""
        return self.missed > 0 and 2 * self.missed >= self.of


def check_results(study: Study, votes: Iterable[Vote]) -> list[CheckResult]:
    """Return the result of every rater who answered a check, in order of arrival."""
    right: dict[tuple[RaterKind, str], dict[str, bool]] = {}
    for vote in votes:
        expected = study.key.checks.get(vote.item, {}).get(vote.aspect)
        if expected is not None:
            value = round(vote.value) if isinstance(vote.value, float) else vote.value
            met = value in expected if isinstance(expected, list) else value == expected
            items = right.setdefault((vote.kind, vote.rater), {})
            items[vote.item] = items.get(vote.item, True) and met
    return [
        CheckResult(rater, kind, sum(not met for met in items.values()), len(items))
        for (kind, rater), items in right.items()
    ]
