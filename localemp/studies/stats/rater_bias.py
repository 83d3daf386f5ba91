"""Rater bias: share of ties, preference for the reply shown first, attention checks missed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localemp.studies.attention_checks import CheckResult, check_results
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
        first: Share of the first-shown reply among choices other than ties whose order is known, with Wilson's
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
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("rater", "kind", "answers", "ties", "ordered")}
        checked = None if self.checked is None else {**asdict(self.checked), "failed": self.checked.failed}
        return {**told, "first": self.first.as_dict(), "checked": checked}


def rater_biases(study: Study, votes: Sequence[Vote]) -> list[RaterBias]:
    """Compute the bias of every rater, in order of arrival."""
    checked = {(each.kind, each.rater): each for each in check_results(study, votes)}
    by_rater: dict[tuple[RaterKind, str], list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault((vote.kind, vote.rater), []).append(vote)
    return [
        _rater_bias(study, rater, kind, told, checked.get((kind, rater))) for (kind, rater), told in by_rater.items()
    ]


def pooled_bias(study: Study, votes: Sequence[Vote]) -> RaterBias:
    """Compute the bias of votes pooled as if from one rater."""
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
    return RaterBias(
        rater=rater,
        kind=kind,
        answers=len(counted),
        ties=ties,
        first=first,
        ordered=len(chosen),
        checked=checked,
    )
