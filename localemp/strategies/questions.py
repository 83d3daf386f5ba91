"""What the stages of a flow ask: their texts with those of a prompt variant, and their sampling.

A flow makes its questions once; for a dialogue only the placeholders of earlier answers and of the data are filled in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localemp.dialogue import EMOTIONS
from localemp.prompting.flow import JUDGE_TASK, REPLY, VARIANT_TEXTS, Judge, Stage, Turn
from localemp.prompting.render import Asked
from localemp.prompting.template import Template
from localemp.prompting.texts import Text, plain
from localemp.sampling import Sampling
from localemp.strategies.answers import answer_schema


@dataclass(frozen=True, slots=True)
class Question:
    """What a stage or its judge asks.

    Attributes:
        task: In place of the prompt variant's; None for that one.
        first: The user's turn that joins the speaker's last one; None for none.
        turns: The turns after it: the cue in a transcript, the text, and whether it is the model's.
        cue: In a transcript, what the answer follows; None for the listener's.
        branch: The text for each label.
        sees_dialogue, sees_exemplars, sees_knowledge: What the prompt holds.
        sampling: The sampling parameters that differ from the run's.
        stop: Stop strings in addition to the run's.
        same: What is asked, if that is the same for all dialogues.
    """

    task: Text | None
    first: Text | None
    turns: tuple[tuple[str, Text, bool], ...]
    cue: str | None
    branch: Mapping[str, Text]
    sees_dialogue: bool
    sees_exemplars: bool
    sees_knowledge: bool
    sampling: Mapping[str, Any]
    stop: tuple[str, ...]
    same: Asked | None = None

    @property
    def names(self) -> set[str]:
        """The placeholders in all texts."""
        texts = [self.task, self.first, *(text for _, text, _ in self.turns), *self.branch.values()]
        return {name for text in texts if text is not None for name in text.names}

    def asked(self, values: Mapping[str, str]) -> Asked:
        """Return what is asked, with a value for every placeholder."""
        if self.same is not None:
            return self.same
        # Answers are quoted without space around them.
        turns = [(cue, text.fill(values).strip() if answer else text.fill(values)) for cue, text, answer in self.turns]
        return Asked(
            "" if self.first is None else self.first.fill(values),
            tuple(turns),
            self.cue,
            None if self.task is None else self.task.fill(values),
            self.sees_dialogue,
        )

    def sampled(self, run: Sampling) -> Sampling:
        """Return the run's sampling with what differs."""
        return replace(run, **self.sampling, stop=(*run.stop, *self.stop)) if self.sampling or self.stop else run


def question_of(stage: Stage, template: Template, texts: Mapping[str, Text], seed: int) -> Question:
    """Return what a stage asks.

    Args:
        stage: The stage.
        template: The prompt variant.
        texts: Its texts that flows can show, by placeholder; see `variant_texts`.
        seed: The seed of a stage with a temperature of its own, if it gives none.
    """
    schema = answer_schema(stage)
    cue = template.two_stage.cue if stage.cue is None and stage.name != REPLY else stage.cue
    question = _question(stage, stage, stage.shown, cue, template, texts, seed)
    return replace(question, sampling={**question.sampling, "schema": schema}) if schema else question


def judge_question_of(judge: Judge, stage: Stage, template: Template, texts: Mapping[str, Text], seed: int) -> Question:
    """Return what the judge of a stage's candidates asks; see `question_of`."""
    if judge.task is None and "task" in judge.sees:
        judge = judge.model_copy(update={"task": JUDGE_TASK})
    return _question(judge, stage, (Turn(user=judge.ask),), template.two_stage.cue, template, texts, seed)


def _question(
    form: Stage | Judge,
    stage: Stage,
    turns: Sequence[Turn],
    cue: str | None,
    template: Template,
    texts: Mapping[str, Text],
    seed: int,
) -> Question:
    fixed = {**texts, "emotions": plain(", ".join(EMOTIONS)), "labels": plain(", ".join(stage.all_labels))}

    def text(written: str) -> Text:
        return Text.parse(written).replace(fixed)

    joins = bool(turns) and turns[0].user is not None
    own_task = form.task is not None or "task" not in form.sees
    branch = next(iter((stage.branch or {}).values()), {})
    sampling = form.sampling.changes
    stop = sampling.pop("stop", ())
    if sampling.get("temperature", 0) > 0:
        sampling.setdefault("seed", seed)
    question = Question(
        task=text(form.task or "") if own_task else None,
        first=text(turns[0].text) if joins else None,
        turns=tuple((_cue(turn, template), text(turn.text), turn.user is None) for turn in turns[joins:]),
        cue=cue,
        branch={label: text(written) for label, written in branch.items()},
        sees_dialogue="dialogue" in form.sees,
        sees_exemplars="exemplars" in form.sees,
        sees_knowledge="knowledge" in form.sees,
        sampling=sampling,
        stop=stop,
    )
    texts_of_all = [question.task, question.first, *(each for _, each, _ in question.turns)]
    if any(each is not None and each.literal is None for each in texts_of_all):
        return question
    return replace(question, same=question.asked({}))


def _cue(turn: Turn, template: Template) -> str:
    """Return what a turn follows in a transcript: the model's answers have a cue, the user's turns have none."""
    if turn.user is not None:
        return ""
    return template.two_stage.cue if turn.cue is None else turn.cue


def variant_texts(template: Template, list_labels: bool | None) -> dict[str, Text]:
    """Return the texts of a prompt variant that flows can show, by placeholder.

    Args:
        template: The prompt variant.
        list_labels: Whether its questions list the 32 emotions; None for the variant's default.
    """
    two_stage = template.two_stage
    show = two_stage.list_labels if list_labels is None else list_labels
    labels = plain(two_stage.labels.format(emotions=", ".join(EMOTIONS)) if show else "")
    texts = {f"variant.{name}": Text.parse(getattr(two_stage, name)) for name in VARIANT_TEXTS if name != "reply"}
    texts = {name: text.replace({"labels": labels}) for name, text in texts.items()}
    return texts | {"variant.reply": plain(two_stage.reply)}  # the only one without placeholders
