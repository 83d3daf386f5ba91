"""A judge chooses between systems' replies and people's, for the metric P(choice): `ask_preferences`.

It is asked as about an A/B test of a study, each pair in both orders. `metrics/choice.py` says where its answers are
kept, and what becomes of them.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.engines.budget import Budget, Limit
from localemp.errors import RunError
from localemp.metrics.choice import choices_folder, judge_folder, pair_keys, unanswerable
from localemp.metrics.registry import CHOICE
from localemp.metrics.replies import Replies
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.journal import newest, read_lines
from localemp.runs.judge_answers import VOTES, check_answer, folder_name
from localemp.studies.judging.asking import Judging, ask_each, own_prompts
from localemp.studies.judging.judge import JudgeLog
from localemp.studies.judging.verdicts import ENOUGH_MASS, JudgeStats, combine
from localemp.studies.own_family import family_note, systems_of_own_family
from localemp.studies.questionnaire import aspect_named
from localemp.studies.schema import Aspect, Item, Manifest, Reply
from localemp.studies.study import Study
from localemp.utils.asynchronous import run_here
from localemp.utils.config_diff import compare_settings
from localemp.utils.formatting import share
from localemp.utils.interrupts import noting
from localemp.utils.progress import OnProgress, silent
from localemp.utils.redaction import shown_command


@dataclass(frozen=True, slots=True)
class Asked:
    """A judge that was asked about systems.

    Attributes:
        judge: Its name.
        aspect: What it judged by.
        refused: For each system that it cannot be asked about, the reason.
        about: What is known of the judge, a line each.
    """

    judge: str
    aspect: str
    refused: Mapping[str, str]
    about: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """All of it in words."""
        return [*(f"no {CHOICE} for {name}: {reason}" for name, reason in self.refused.items()), *self.about]


class ChoiceLog(JudgeLog):
    """A judge's folder beside a system's replies, open for writing."""

    option = "run or file"

    def hint(self) -> str:
        """Return what to do where answers cannot be read."""
        return "take another --judge"

    @classmethod
    def _check_settings(cls, folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        if difference := compare_settings(manifest["settings"], settings, "there"):
            shown = "\n".join(f"  {line}" for line in difference)
            raise RunError(
                f"{folder} has the choices of a judge that was another one, or asked in another way:\n{shown}",
                f"remove {folder}, and score again",
            )


def ask_preferences(
    systems: Sequence[Replies],
    config: RunConfig,
    aspect: str | None = None,
    on_progress: OnProgress = silent,
    budget: Limit = None,
) -> Asked:
    """Ask a judge what it has not been asked about some systems yet, and keep each answer as soon as it is there.

    All systems share an engine. The same call goes on where one was stopped.

    Args:
        systems: Their replies.
        config: The judge.
        aspect: What it judges by, one of the paper's; None for Empathy.
        on_progress: Called with weights that are fetched or verified, and with answers.
        budget: US dollars that it may cost in all, earlier sessions included.

    Raises:
        UnknownNameError: There is no such aspect.
        JudgeError: Too many answers cannot be read.
        LocalempError: The judge cannot be found, its folder has answers of another judge, or its engine failed for
            good; what was answered is kept.
        KeyboardInterrupt: Ctrl-C; the note says how much is kept.
    """
    question, chosen = aspect_named(aspect)
    refused = {system.name: reason for system in systems if (reason := unanswerable(system))}
    # Each once: the same file may be given twice.
    asked = list({choices_folder(system): system for system in systems if not unanswerable(system)}.values())
    pipeline = Pipeline(config, on_progress, Budget.of(budget))
    pipeline.check_budget()
    judge = pipeline.model_name
    if asked:
        pipeline.note_end()
    with ExitStack() as stack:
        opened: list[Judging] = []
        for system in asked:
            place = choices_folder(system)
            assert place is not None, "otherwise no judge can be asked"
            folder = place / folder_name(judge) / folder_name(chosen.name)
            study = _study(system, folder, question, chosen)
            opened.append(Judging.open(study, folder, pipeline, own_prompts(folder, pipeline), log=ChoiceLog))
            stack.callback(opened[-1].answers.close)
        with noting(lambda: "; ".join(each.saved() for each in opened)):
            if pending := [each for each in opened if each.pending and each.error is None]:
                run_here(ask_each(pipeline, pending, on_progress), "call it from a script, or in a thread of its own")
            for each in opened:
                if each.error is not None:
                    raise each.error
        for system, each in zip(asked, opened, strict=True):
            if judge_folder(system) != each.study.folder:  # it counts as the one that was asked last from now on
                each.answers.add_session({"command": shown_command(), "questions": 0})
    return Asked(judge, chosen.name, refused, (*_related(judge, pipeline, asked), *map(_about, asked, opened)))


def _study(system: Replies, folder: Path, question: str, aspect: Aspect) -> Study:
    """Return an A/B test of a system and people, as a judge takes it; nothing is written."""
    items = []
    for item in system.items:
        ours, theirs = pair_keys(item)
        replies = Reply(key=ours, text=item.text), Reply(key=theirs, text=item.reference or "")
        items.append(Item(id=item.id, turns=item.turns, replies=replies))
    manifest = Manifest(
        kind="ab",
        title="Replies and people's replies",
        instructions="",
        question=question,
        aspects=(aspect,),
        seed=0,
        shuffle="none",
        created="",
        versions={},
        items_sha256="",  # there may be more tomorrow: a question's id has a hash of what is shown
        key_sha256="",
    )
    return Study(folder, manifest, tuple(items))


def _related(judge: str, pipeline: Pipeline, systems: Sequence[Replies]) -> list[str]:
    """Warn of systems of the judge's own family."""
    related = systems_of_own_family({system.name: system.source for system in systems}, pipeline.model_settings())
    return [family_note(judge, related)] if related else []


def _about(system: Replies, judging: Judging) -> str:
    """Return what is known of a judge from its answers about a system."""
    asked = {question.id for question in judging.asked}
    records = newest(read_lines(judging.answers.folder / VOTES, check_answer))
    _, stats = combine("", [record for record in records if record["id"] in asked], judging.judge.prompts.margin)
    judge = str(judging.answers.manifest["settings"]["model"])
    return f"{judge} about {system.name}: " + "; ".join([*_parts(stats), *judging.answers.bill.lines()])


def _parts(stats: JudgeStats) -> list[str]:
    parts = []
    if stats.first_probability is not None:
        parts.append(f"{stats.first_probability:.1%} of the probability is for the reply shown first")
    elif stats.first_share is not None:
        parts.append(f"{stats.first_share:.1%} of choices are for the reply shown first")
    if stats.flip_rate is not None:
        parts.append(f"{stats.flip_rate:.1%} of pairs change with the order (50.0% by guessing)")
    if stats.mass is not None and stats.mass < ENOUGH_MASS:
        parts.append(f"it would mostly write something else than an answer (mass {stats.mass:.1%})")
    if stats.unparsable:
        parts.append(f"{share(stats.unparsable, stats.answers, 'answer')} cannot be read and count as half")
    return parts or ["no answer"]
