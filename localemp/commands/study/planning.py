"""`study.power`: how many dialogues a study needs, or what a study of a given size can find."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from localemp.errors import OptionError, RunError, UnknownNameError
from localemp.studies.attention_checks import check_results
from localemp.studies.collected_votes import read_votes
from localemp.studies.privacy import open_study
from localemp.studies.schema import Kind
from localemp.studies.stats import power as planned
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.stats.pilot import Pilot, pilot_figures
from localemp.utils.extras import require
from localemp.utils.option import check_at_least
from localemp.utils.paths import StrPath

if TYPE_CHECKING:
    from localemp.studies.study import Study

_RATERS, _POWERS = (1, 2, 3, 5), (0.8, 0.9, 0.95)
_FULL = 0.99  # agreement of a pilot whose raters never differ
_DEFAULTS = {
    "ties": "default: the mean of the paper's Table 4",
    "agreement": "default: between EmPO's 0.11 to 0.16 and 0.4, where agreement is often called moderate",
    "sd": "default: a quarter of a scale from 1 to 5; EmPO's is 24 to 29 of 100",
}


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One of several designs to choose from.

    Attributes:
        raters: Who answer about each dialogue.
        power: That is wanted.
        dialogues: Of the study; None for more than a million.
        effect: The smallest that is found; None if there is none.
    """

    raters: int
    power: float
    dialogues: int | None
    effect: float | None


@dataclass(frozen=True, slots=True)
class PowerResult:
    """A plan for a study.

    Attributes:
        design: Raters, assumptions and test.
        sources: Where each assumption is from.
        solved: What was computed from the others.
        dialogues: Of the study.
        effect: A/B: share of votes for one system minus that for the other. Ratings: difference of means, in points.
        power: With which the t-test finds this effect in these dialogues.
        majorities: The same of the exact binomial test of majorities; None for ratings.
        trade_offs: Other raters and powers, for the same effect or, if that was computed, for the same dialogues.
        pilot: What was read from the pilot.
        notes: What limits the result.
    """

    design: planned.Design
    sources: Mapping[str, str]
    solved: Literal["dialogues", "effect", "power"]
    dialogues: int
    effect: float
    power: float
    majorities: float | None
    trade_offs: tuple[TradeOff, ...]
    pilot: Pilot | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        names = ("solved", "dialogues", "effect", "power", "majorities")
        return {
            "test": "paired t-test over dialogues, two-sided",
            "design": self.design.as_dict(),
            "sources": dict(self.sources),
            **{name: getattr(self, name) for name in names},
            "trade_offs": [asdict(each) for each in self.trade_offs],
            "pilot": self.pilot and self.pilot.as_dict(),
            "notes": list(self.notes),
        }


def power(
    effect: float | None = None,
    *,
    kind: Kind | None = None,
    raters: int = planned.RATERS,
    ties: float | None = None,
    agreement: float | None = None,
    sd: float | None = None,
    alpha: float = planned.ALPHA,
    power: float = planned.POWER,
    dialogues: int | None = None,
    tests: int = 1,
    like: StrPath | None = None,
    drop_failed: bool = False,
) -> PowerResult:
    """Plan a study: the dialogues that an effect needs, the smallest effect that dialogues find, or the power of both.

    Args:
        effect: A/B: share of votes for one system minus that for the other, over all votes; 0.1 is 55 : 45 without
            ties. Ratings: difference of mean ratings, in points of the scale. Left out, the smallest is computed.
        kind: "ab" or "rating"; by default the pilot's, or "ab".
        raters: Who answer about each dialogue.
        ties: Share of ties (A/B); by default the pilot's, or 0.2.
        agreement: Correlation of two raters' answers to one item; by default the pilot's, or 0.25.
        sd: Standard deviation of one rater's ratings of a system; by default the pilot's, or 1.
        alpha: Significance level.
        power: Wanted probability of a significant result.
        dialogues: Of the study. Left out, the number is computed.
        tests: Tests that share alpha, such as pairs of systems times aspects.
        like: A study whose answers give ties, agreement and sd.
        drop_failed: Leave out its raters who missed half of the attention checks or more.

    Raises:
        OptionError: A value is impossible, or neither effect nor dialogues are given.
        UnknownNameError: There is no such kind.
        RunError: `like` holds no study, or no answers of people.
        LocalempError: scipy is not installed.
    """
    require("study", "power", "scipy")
    if effect is None and dialogues is None:
        raise OptionError("neither --effect nor --dialogues is given", "localemp study power --effect 0.1 --raters 3")
    if drop_failed and like is None:
        raise OptionError("--drop-failed is about the raters of a pilot", "name one with --like, or leave it out")
    check_at_least(2, dialogues=dialogues)
    if dialogues is not None and dialogues > planned.MOST_DIALOGUES:
        raise OptionError(f"--dialogues {dialogues}: too many", f"give at most {planned.MOST_DIALOGUES:,}")
    study = None if like is None else open_study(Path(like))
    kind = _kind(kind, study)
    pilot, told = (None, list[str]()) if study is None else _pilot(study, drop_failed)
    design, sources, notes = _design(kind, {"ties": ties, "agreement": agreement, "sd": sd}, pilot, str(like))
    design = replace(design, raters=raters, alpha=alpha, tests=tests)
    solved: Literal["dialogues", "effect", "power"] = "power"
    if effect is None:
        solved, effect = "effect", _effect(design, int(dialogues or 0), power)
    elif dialogues is None:
        solved, dialogues = "dialogues", _dialogues(design, effect, power)
    design.check_effect(effect)
    planned.check_power(design, power)
    size = int(dialogues or 0)
    return PowerResult(
        design=design,
        sources=sources,
        solved=solved,
        dialogues=size,
        effect=effect,
        power=planned.t_test_power(design, effect, size),
        majorities=planned.majority_power(design, effect, size) if kind == "ab" else None,
        trade_offs=tuple(_trade_offs(design, size if solved == "effect" else None, effect, power)),
        pilot=pilot,
        notes=(*notes, *told),
    )


def smallest_effect_of(study: "Study") -> PowerResult | None:
    """Return what a new study can find with the defaults of `power`; None if it compares nothing, or scipy is missing.

    Holm's correction of a rating study is taken into account, over all pairs of systems and aspects.
    """
    manifest, systems = study.manifest, len(study.systems)
    rated = {dialogue for item, dialogue in study.key.dialogues.items() if item not in study.key.checks}
    if systems < 2 or len(rated) < 2 or find_spec("scipy") is None:
        return None
    pairs, sd = systems * (systems - 1) // 2, None
    if manifest.scale is not None:
        sd = planned.WIDTHS * (manifest.scale[1] - manifest.scale[0])
    tests = 1 if manifest.kind == "ab" else pairs * len(manifest.aspects)
    raters = min(manifest.annotators or planned.RATERS, planned.MOST_RATERS)
    try:
        return power(kind=manifest.kind, raters=raters, sd=sd, tests=tests, dialogues=len(rated))
    except OptionError:  # too few dialogues for any effect
        return None


def _kind(kind: Kind | None, study: "Study | None") -> Kind:
    if kind is not None and kind not in get_args(Kind):
        raise UnknownNameError("kind of study", kind, get_args(Kind))
    if study is None:
        return kind or "ab"
    found = study.manifest.kind
    if kind not in (None, found):
        raise OptionError(f"--like {study.folder}: a study of kind {found}, not {kind}", f"leave out --kind {kind}")
    return found


def _pilot(study: "Study", drop_failed: bool) -> tuple[Pilot, list[str]]:
    """Return the figures of a pilot, and a note on raters who failed its attention checks."""
    people = [vote for vote in read_votes(study) if vote.kind != "judge"]
    failed = {(each.kind, each.rater): each.rater for each in check_results(study, people) if each.failed}
    people = [vote for vote in people if vote.item not in study.key.checks]
    kept = [vote for vote in people if not drop_failed or (vote.kind, vote.rater) not in failed]
    if not kept:
        who = "people" if not people else "people who passed the attention checks"
        raise RunError(f"{study.folder}: no answers of {who} yet", "give --ties, --agreement or --sd in its place")
    done = "left out" if drop_failed else "--drop-failed leaves them out"
    notes = [f"raters who missed half of the attention checks or more: {', '.join(failed.values())} ({done})"]
    return pilot_figures(RatingMatrix.of(study, kept)), notes if failed else []


def _design(
    kind: Kind, given: Mapping[str, float | None], pilot: Pilot | None, like: str
) -> tuple[planned.Design, dict[str, str], list[str]]:
    """Return the design with its assumptions, where each is from, and what is to be said about the pilot."""
    used, unused = ("ties", "sd") if kind == "ab" else ("sd", "ties")
    if given[unused] is not None:
        raise OptionError(f"--{unused} says nothing about a study of kind {kind}", "leave it out")
    values = {"ties": planned.TIES, "agreement": planned.AGREEMENT, "sd": planned.SD}
    sources, notes = {}, []
    for name in (used, "agreement"):
        found: float | None = getattr(pilot, name, None)
        if (told := given[name]) is not None:
            values[name], sources[name] = told, "given"
        elif found is not None:
            values[name], sources[name] = found, like
        else:
            sources[name] = _DEFAULTS[name]
            if pilot:
                notes.append(f"{like} says nothing about {name}: too few answers, or all are the same")
    if values["agreement"] > _FULL and given["agreement"] is None:
        values["agreement"] = _FULL
        notes.append(f"raters of {like} never differ: planned with an agreement of {_FULL}")
    if pilot:
        notes.append(f"a pilot of {pilot.dialogues:,} dialogues ({pilot.answers:,} answers): its figures are estimates")
    design = planned.Design(kind, ties=values["ties"], agreement=values["agreement"], sd=values["sd"])
    return design, sources, notes


def _effect(design: planned.Design, dialogues: int, power: float) -> float:
    found = planned.smallest_effect(design, dialogues, power)
    if found is None:
        raise OptionError(
            f"--dialogues {dialogues}: too few to find any difference with a power of {power:.0%}",
            "plan for more dialogues, or fewer --tests",
        )
    return found


def _dialogues(design: planned.Design, effect: float, power: float) -> int:
    found = planned.dialogues_needed(design, effect, power)
    if found is None:
        raise OptionError(
            f"--effect {effect:g}: needs more than {planned.MOST_DIALOGUES:,} dialogues", "plan for a larger effect"
        )
    return found


def _trade_offs(design: planned.Design, dialogues: int | None, effect: float, power: float) -> Iterator[TradeOff]:
    """Yield other designs: of these dialogues if a number is given, else for the effect."""
    for raters in sorted({*_RATERS, design.raters}):
        other = replace(design, raters=raters)
        for wanted in sorted(each for each in {*_POWERS, power} if each > design.level):
            if dialogues is None:
                yield TradeOff(raters, wanted, planned.dialogues_needed(other, effect, wanted), effect)
            else:
                yield TradeOff(raters, wanted, dialogues, planned.smallest_effect(other, dialogues, wanted))
