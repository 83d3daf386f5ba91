"""The unified prompt template (section 3.2) as data, and how it becomes messages.

    Task Definition + Guideline Instruction + Exemplars (optional) + Dialogue Context (+ additions of section 3.3)

A template is a TOML file in `prompts/`: `paper` (default), `released` (the authors' scripts), or one of your own. It is
rendered in one of two layouts. In the chat layout the task and the exemplars are the system message and the dialogue's
turns are user and assistant messages; in the transcript layout everything is one text that ends where the listener
speaks. What all dialogues of a run share comes first, so that an engine's prefix cache holds it.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from localemp.commonsense.relations import EventKind
from localemp.commonsense.selection import Select
from localemp.dialogue import EMOTIONS, Dialogue, Message
from localemp.errors import PromptError, UnknownNameError
from localemp.paths import resource

Layout = Literal["chat", "transcript"]
LAYOUTS: tuple[Layout, ...] = ("chat", "transcript")


def _placeholders(*names: str) -> AfterValidator:
    """A check that a text holds exactly these `{placeholders}`."""

    def check(text: str) -> str:
        found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        if missing := set(names) - found:
            raise ValueError(f"the placeholder {{{sorted(missing)[0]}}} is missing")
        if unknown := found - set(names):
            raise ValueError(f"unknown placeholder {{{sorted(unknown)[0]}}}; known: {', '.join(names) or 'none'}")
        return text

    return AfterValidator(check)


TextLine = Annotated[str, _placeholders("text")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lines(_Strict):
    """How one turn of each person is written."""

    speaker: TextLine
    listener: TextLine

    def write(self, turns: Sequence[str]) -> list[str]:
        """One line a turn, the speaker first."""
        return [(self.listener if i % 2 else self.speaker).format(text=turn) for i, turn in enumerate(turns)]


class Task(_Strict):
    """Task definition and guideline instruction."""

    definition: str
    guideline: str
    joint: str
    joint_before_exemplars: str


class FixedExemplars(_Strict):
    """Exemplars that do not depend on the seed, as long as the pool has this very size."""

    pool_size: int
    indices: Mapping[int, tuple[int, ...]]


class Exemplars(_Strict):
    """How exemplars are chosen and written."""

    unit: Literal["dialogue", "instance"]
    similarity: Literal["context", "context-and-reply"]
    heading_one: str
    heading_many: str
    title_one: str
    title_many: Annotated[str, _placeholders("number")]
    separator: str
    end: str
    chat: Lines
    transcript: Lines
    fixed: FixedExemplars | None = None


class Context(_Strict):
    """The dialogue in the transcript layout."""

    heading: str
    heading_after_exemplars: str
    lines: Lines
    cue: str
    stop: tuple[str, ...]


class TwoStage(_Strict):
    """Two-stage interactive generation (section 3.3.2)."""

    list_labels: bool
    labels: Annotated[str, _placeholders("emotions")]
    ask_both: Annotated[str, _placeholders("labels")]
    ask_emotion: Annotated[str, _placeholders("labels")]
    ask_situation: Annotated[str, _placeholders()]
    given_emotion: Annotated[str, _placeholders("emotion")]
    given_situation: Annotated[str, _placeholders("situation")]
    reply: str
    cue: str


class Knowledge(_Strict):
    """Commonsense inferences (section 3.3.3). `definitions` and `labels` name the relations, in their order.

    `event` is what COMET is asked about: the whole context, or the last utterance as the released code writes it.
    """

    event: EventKind
    introduction: str
    relation: Annotated[str, _placeholders("label", "inferences")]
    between: str
    end: str
    definitions: Mapping[str, str]
    labels: Mapping[str, str]
    select: Select


class Template(_Strict):
    """One prompt file.

    Attributes:
        sha256: Hash of the file's bytes; a manifest records it.
    """

    name: str
    description: str
    task: Task
    exemplars: Exemplars
    context: Context
    two_stage: TwoStage
    knowledge: Knowledge
    sha256: str = ""


def load_template(name: str) -> Template:
    """Read and check a prompt file.

    Args:
        name: `paper`, `released`, or a path to a TOML file of the same form.

    Raises:
        UnknownNameError: No such variant and no such file.
        PromptError: The file is no TOML, or a key is unknown, missing or wrong; says which.
    """
    path = Path(name) if name.endswith(".toml") else resource("prompts", f"{name}.toml")
    if not path.is_file() and name.endswith(".toml"):
        raise PromptError(f"{path}: no such file", "give a prompt file, or one of: paper, released")
    if not path.is_file():
        known = sorted(file.stem for file in resource("prompts").glob("*.toml"))
        raise UnknownNameError("prompt variant", name, known, "A path to a .toml file of your own works too")
    content = path.read_bytes()
    try:
        fields: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
        return Template(**{**fields, "sha256": hashlib.sha256(content).hexdigest()})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: no valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(first["type"], first["msg"])
        raise PromptError(f"{path}: {key}: {what}", f"compare with {resource('prompts', 'paper.toml')}") from error


class Prompts:
    """A template in one layout: renders what is sent.

    Args:
        template: The texts.
        layout: Chat turns or one transcript.
        system_role: Whether the model's chat template takes a system message; if not, its text opens the first user
            message instead.
    """

    def __init__(self, template: Template, layout: Layout = "chat", system_role: bool = True) -> None:
        self.template, self.layout, self.system_role = template, layout, system_role

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts at which the engine may stop: a transcript is easily continued beyond the reply."""
        return self.template.context.stop if self.layout == "transcript" else ()

    def describe(self) -> dict[str, Any]:
        """What a manifest records."""
        named = {"variant": self.template.name, "prompt_sha256": self.template.sha256}
        return {**named, "layout": self.layout, "system_role": self.system_role}

    def messages(
        self,
        dialogue: Dialogue,
        exemplars: Sequence[Dialogue] = (),
        additions: Sequence[str] = (),
        thought: str | None = None,
        *,
        thinking: bool = False,
        instruction: str = "",
    ) -> list[Message]:
        """Render one prompt.

        Args:
            dialogue: The dialogue context.
            exemplars: Shown before it, in this order.
            additions: Texts after the last turn (knowledge, the stage-1 question).
            thought: What stage 1 found; the prompt then asks for the reply that combines it (stage 2).
            thinking: The additions end with a question that is to be answered first (stage 1); it matters to the
                transcript layout alone, which ends with a cue.
            instruction: What a caller adds to the task of the paper (a server's client: its system message).
        """
        task = self._task(exemplars, instruction)
        if self.layout == "transcript":
            return [Message("user", self._transcript(task, dialogue, bool(exemplars), additions, thought, thinking))]
        turns = list(dialogue.turns)
        turns[-1] = "\n\n".join([turns[-1], *additions])
        if thought is not None:
            turns += [thought, self.template.two_stage.reply]
        if not self.system_role:
            turns[0] = f"{task.rstrip()}\n\n{turns[0]}"
        messages = [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]
        return [Message("system", task), *messages] if self.system_role else messages

    def question(self, given: Sequence[str], list_labels: bool | None = None) -> str | None:
        """The stage-1 question for what is not `given` ("emotion", "situation"); None where both are."""
        two_stage = self.template.two_stage
        show = two_stage.list_labels if list_labels is None else list_labels
        labels = two_stage.labels.format(emotions=", ".join(EMOTIONS)) if show else ""
        if "emotion" in given and "situation" in given:
            return None
        if "emotion" in given:
            return two_stage.ask_situation
        ask = two_stage.ask_emotion if "situation" in given else two_stage.ask_both
        return ask.format(labels=labels)

    def thought(self, found: str | None, emotion: str | None = None, situation: str | None = None) -> str:
        """What stage 2 builds on: the stage-1 text, with the given emotion or situation in its place."""
        two_stage = self.template.two_stage
        parts = [
            emotion and two_stage.given_emotion.format(emotion=emotion),
            found and found.strip(),
            situation and two_stage.given_situation.format(situation=situation),
        ]
        return " ".join(part for part in parts if part)

    def knowledge(self, inferences: Mapping[str, Sequence[str]]) -> str | None:
        """The block of Eq. 8 and 9: definitions of the relations, then the inferences; None where there are none."""
        data = self.template.knowledge
        lines = [
            data.relation.format(label=label, inferences=data.between.join(inferences[name]))
            for name, label in data.labels.items()
            if inferences.get(name)
        ]
        return "\n".join([data.introduction, *data.definitions.values(), *lines]) + data.end if lines else None

    def _task(self, exemplars: Sequence[Dialogue], added: str) -> str:
        task, style = self.template.task, self.template.exemplars
        guideline = f"{task.guideline}\n\n{added}" if added else task.guideline
        if not exemplars:
            return task.definition + task.joint + guideline
        write = style.chat.write if self.layout == "chat" else style.transcript.write
        one = len(exemplars) == 1
        blocks = [
            "\n".join([style.title_one if one else style.title_many.format(number=number), *write(shown)])
            for number, shown in enumerate((exemplar.complete_turns for exemplar in exemplars), 1)
        ]
        heading = style.heading_one if one else style.heading_many
        instruction = task.definition + task.joint_before_exemplars + guideline
        return f"{instruction}\n\n{heading}\n\n{style.separator.join(blocks)}{style.end}"

    def _transcript(
        self,
        task: str,
        dialogue: Dialogue,
        after_exemplars: bool,
        additions: Sequence[str],
        thought: str | None,
        thinking: bool,
    ) -> str:
        context, two_stage = self.template.context, self.template.two_stage
        heading = context.heading_after_exemplars if after_exemplars else context.heading
        lines = "\n".join(context.lines.write(dialogue.turns))
        parts = [task.rstrip("\n"), heading, "\n\n".join([lines, *additions])]
        text = "\n\n".join(parts) + ("\n\n" if additions else "\n")
        if thinking:
            return text + two_stage.cue
        if thought is None:
            return text + context.cue
        answered = f"{two_stage.cue} {thought}" if additions else thought
        return f"{text}{answered}\n\n{two_stage.reply}\n\n{context.cue}"
