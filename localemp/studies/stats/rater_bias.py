"""What raters do whatever the replies are: ties, choices of the reply that is shown first, attention checks missed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localemp.studies.ballots import CheckResult, check_results
from localemp.studies.schema import TIE
from localemp.studies.stats.intervals import Estimate
from localemp.studies.stats.preferences import wilson
from localemp.studies.study import Study
from localemp.studies.votes import RaterKind, Vote

PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class RaterBias:
    """One rater, or all people together.

    Attributes:
        rater: The name.
        kind: Of the rater.
        answers: Without those to attention checks.
        ties: How many of them are ties.
        first: Share of the first-shown reply among choices that are no tie and whose order is known, with Wilson's
            interval: 0.5 is fair, since orders are drawn.
        ordered: How many such choices there are.
        checked: Attention checks missed; None where none was answered.
    """

    rater: str
    kind: RaterKind
    answers: int
    ties: int
    first: Estimate
    ordered: int
    checked: CheckResult | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {name: getattr(self, name) for name in ("rater", "kind", "answers", "ties", "ordered")}
        checked = None if self.checked is None else {**asdict(self.checked), "failed": self.checked.failed}
        return {**told, "first": self.first.as_dict(), "checked": checked}


def rater_biases(study: Study, votes: Sequence[Vote]) -> list[RaterBias]:
    """Every rater in the order in which they came."""
    checked = {(each.kind, each.rater): each for each in check_results(study, votes)}
    by_rater: dict[tuple[RaterKind, str], list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault((vote.kind, vote.rater), []).append(vote)
    return [
        _rater_bias(study, rater, kind, told, checked.get((kind, rater))) for (kind, rater), told in by_rater.items()
    ]


def pooled_bias(study: Study, votes: Sequence[Vote]) -> RaterBias:
    """All of some votes, as if one rater had given them."""
    return _rater_bias(study, PEOPLE, "person", votes, None)


def _rater_bias(
    study: Study, rater: str, kind: RaterKind, votes: Sequence[Vote], checked: CheckResult | None
) -> RaterBias:
    counted = [vote for vote in votes if vote.item not in study.key.checks]
    ties = sum(vote.value == TIE for vote in counted)
    chosen = [vote.value == vote.first for vote in counted if vote.first and not vote.reply and vote.value != TIE]
    first = Estimate(None, reason="no choice whose order is known")
    if chosen:
        first = Estimate(sum(chosen) / len(chosen), wilson(sum(chosen), len(chosen)))
    return RaterBias(rater, kind, len(counted), ties, first, len(chosen), checked)
