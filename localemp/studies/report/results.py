"""All results of a study: from people and judges, and their agreement."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from localemp.errors import RunError, UnknownNameError
from localemp.studies.collected_votes import read_votes
from localemp.studies.judging.verdicts import MEASURED, JudgeStats, read_settings, read_stats
from localemp.studies.own_family import OwnFamily, own_family
from localemp.studies.report.calibration import NO_JUDGES, Calibration, calibration
from localemp.studies.stats.agreement import Agreement, agreement, agreements
from localemp.studies.stats.correlation import Correlation, correlations
from localemp.studies.stats.coverage import Coverage, coverage
from localemp.studies.stats.intervals import Bootstrap
from localemp.studies.stats.matrix import RatingMatrix, groups
from localemp.studies.stats.preferences import Preference, preferences
from localemp.studies.stats.rater_bias import PEOPLE, RaterBias, pooled_bias, rater_biases
from localemp.studies.stats.ratings import Difference, Mean, differences, means
from localemp.studies.study import JUDGES, Study
from localemp.studies.votes import Vote
from localemp.utils.extras import require

NEEDED = ("scipy", "statsmodels", "krippendorff")


@dataclass(frozen=True)
class RaterResults:
    """The results from people, or from one judge.

    Attributes:
        who: "people", or the judge's name.
        judge: What is known of a judge; None for people.
        raters: How many.
        items: How many items one of them answered at least in part.
        dialogues: How many dialogues these are of.
        unfinished: How many of its answers a judge has given, where some are lacking; else empty.
        preferences: Of an A/B test.
        means, differences: Of ratings.
        correlations: Of a judge with the people.
        own_family: The systems that are of a judge's own family.
    """

    who: str
    judge: JudgeStats | None
    raters: int
    items: int
    dialogues: int
    unfinished: str = ""
    preferences: Sequence[Preference] = ()
    means: Sequence[Mean] = ()
    differences: Sequence[Difference] = ()
    correlations: Sequence[Correlation] = ()
    own_family: OwnFamily = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told: dict[str, Any] = {"who": self.who, "raters": self.raters, "items": self.items}
        told["dialogues"] = self.dialogues
        if self.unfinished:
            told["unfinished"] = self.unfinished
        if self.own_family:
            told["own_family"] = {system: sorted(families) for system, families in self.own_family.items()}
        if self.judge:
            shares = ("unparsable_share", "flip_rate", "first_share")
            known = {**asdict(self.judge), **{name: getattr(self.judge, name) for name in shares}}
            told["judge"] = {
                name: value for name, value in known.items() if self.judge.measured or name not in MEASURED
            }
        for name in ("preferences", "means", "differences", "correlations"):
            if found := getattr(self, name):
                told[name] = [each.as_dict() for each in found]
        return told


@dataclass(frozen=True)
class StudyResults:
    """All results of a study.

    Attributes:
        study: The study.
        items: How many it has, without attention checks.
        bootstrap: How intervals were made.
        opinions: People first, then judges.
        agreements: Of people; empty where there is only one.
        between_judges: Of judges with each other, by aspect and comparison (or system); empty for fewer than two.
        rater_biases: Of all people together, then of every rater.
        coverage: How many people rated each item; None where no design asks for a number.
        dropped: Raters who were left out because they failed the attention checks.
        calibration: How far judges can be trusted.
    """

    study: Study
    items: int
    bootstrap: Bootstrap
    opinions: Sequence[RaterResults]
    agreements: Sequence[Agreement]
    rater_biases: Sequence[RaterBias]
    coverage: Coverage | None = None
    dropped: Sequence[str] = ()
    between_judges: Sequence[Agreement] = ()
    calibration: Calibration = NO_JUDGES

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "study": str(self.study.folder),
            "kind": self.study.manifest.kind,
            "preset": self.study.manifest.preset,
            "ratings_by": self.study.manifest.ratings_by,
            "coverage": self.coverage and asdict(self.coverage),
            "items": self.items,
            "systems": list(self.study.systems),
            "resamples": self.bootstrap.resamples,
            "seed": self.bootstrap.seed,
            "versions": {name: version(name) for name in ("localemp", *NEEDED)},
            "dropped": list(self.dropped),
            "raters": [each.as_dict() for each in self.rater_biases],
            "opinions": [each.as_dict() for each in self.opinions],
            "agreement": [each.as_dict() for each in self.agreements],
            "judges_agreement": [each.as_dict() for each in self.between_judges],
            "calibration": self.calibration.as_dict(),
        }


def study_results(
    study: Study,
    bootstrap: Bootstrap | None = None,
    judges: Sequence[str] = (),
    drop_failed: bool = False,
    own: Collection[str] | None = None,
) -> StudyResults:
    """Compute all results of a study.

    Args:
        study: What was rated.
        bootstrap: How intervals are made.
        judges: Only these; all where empty.
        drop_failed: Leave out people who missed half of their attention checks or more.
        own: The systems that every judge's own model wrote; None for those of each judge's family.

    Raises:
        RunError: There are no answers.
        UnknownNameError: There is no such judge.
        LocalempError: A package is not installed.
    """
    require("study", "the report of a study")
    bootstrap = bootstrap or Bootstrap()
    votes = read_votes(study)
    known = list(dict.fromkeys(vote.rater for vote in votes if vote.kind == "judge"))
    for name in judges:
        if name not in known:
            raise UnknownNameError("judge", name, known, f"`localemp study judge {study.folder}` adds one")
    votes = [vote for vote in votes if vote.kind != "judge" or not judges or vote.rater in judges]
    everyone = rater_biases(study, votes)
    failed = {(each.kind, each.rater) for each in everyone if each.checked and each.checked.failed}
    out = {who for who in failed if drop_failed and who[0] != "judge"}
    votes = [vote for vote in votes if (vote.kind, vote.rater) not in out]
    told = [vote for vote in votes if vote.item not in study.key.checks]
    if not told and out:
        names = ", ".join(sorted(rater for _, rater in out))
        raise RunError(
            f"{study.folder}: no rater is left: all missed half of their attention checks or more ({names})",
            "leave out --drop-failed",
        )
    if not told:
        raise RunError(f"{study.folder}: no answers yet", "`localemp study serve`, `study judge` or `study import`")
    people = [vote for vote in votes if vote.kind != "judge"]
    matrix = RatingMatrix.of(study, people)
    opinions = [_opinion(study, PEOPLE, None, matrix, None, bootstrap)] if people else []
    judged = {
        name: RatingMatrix.of(study, said)
        for name in known
        if (said := [vote for vote in votes if vote.kind == "judge" and vote.rater == name])
    }
    for name, answers in judged.items():
        judge = read_stats(study.folder / JUDGES / name, study.key.checks)
        opinions.append(_opinion(study, name, judge, answers, matrix if people else None, bootstrap))
    several, planned = len(matrix.raters) > 1, study.manifest.annotators
    return StudyResults(
        study=study,
        items=len(study.items) - len(study.key.checks),
        bootstrap=bootstrap,
        opinions=opinions,
        agreements=agreements(matrix, _aspects(study), groups(study), bootstrap) if several else (),
        rater_biases=[pooled_bias(study, people), *everyone] if several else everyone,
        coverage=coverage(matrix, planned) if planned else None,
        dropped=sorted(rater for _, rater in out),
        calibration=calibration(study, judged, matrix, bootstrap, own),
        between_judges=_between(study, [vote for vote in told if vote.kind == "judge"], bootstrap),
    )


def _between(study: Study, votes: Sequence[Vote], bootstrap: Bootstrap) -> Sequence[Agreement]:
    """Return how far judges agree on each aspect of each comparison (or system); nothing for a single one."""
    matrix = RatingMatrix.of(study, votes)
    if len(matrix.raters) < 2:
        return ()
    parts = [(aspect, group) for group in groups(study) for aspect in _aspects(study)]
    return [agreement(matrix, aspect, group, bootstrap) for aspect, group in parts]


def _opinion(
    study: Study,
    who: str,
    judge: JudgeStats | None,
    matrix: RatingMatrix,
    people: RatingMatrix | None,
    bootstrap: Bootstrap,
) -> RaterResults:
    aspects, parts, answered = _aspects(study), groups(study), matrix.only()
    ab = study.manifest.kind == "ab"
    return RaterResults(
        who=who,
        judge=judge,
        raters=len(matrix.raters),
        items=len({unit.item for unit in answered.units}),
        dialogues=len(set(answered.dialogues)),
        unfinished=_unfinished(study, who, judge) if judge else "",
        preferences=preferences(matrix, aspects, parts, bootstrap) if ab else (),
        means=() if ab else means(matrix, aspects, parts, bootstrap),
        differences=() if ab else differences(matrix, aspects, parts, bootstrap),
        correlations=() if people is None else correlations(matrix, people, aspects, parts, bootstrap),
        own_family=own_family(study, read_settings(study.folder / JUDGES / who)) if judge else {},
    )


def _unfinished(study: Study, name: str, judge: JudgeStats) -> str:
    """Return how many answers a judge has if some are missing: each pair in both orders, or each reply."""
    votes = read_settings(study.folder / JUDGES / name)["votes"]
    rated = [item for item in study.items if item.id not in study.key.checks]
    due = sum(len(item.replies) for item in rated) * len(study.manifest.aspects) * votes
    return f"{judge.answers:,} of {due:,} answers" if judge.answers < due else ""


def _aspects(study: Study) -> list[str]:
    return [aspect.name for aspect in study.manifest.aspects]
