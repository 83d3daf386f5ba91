"""Renders the unified prompt template (section 3.2) as messages.

    Task Definition + Guideline Instruction + Exemplars (optional) + Dialogue Context (+ additions of section 3.3)

There are two layouts. In the chat layout, task and exemplars are the system message, and the dialogue's turns are user
and assistant messages; in the transcript layout, everything is one text that ends where the listener speaks. Texts that
all dialogues of a run share come first, so that an engine's prefix cache applies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from localemp.dialogue import Dialogue, Message
from localemp.prompting.template import Template

Layout = Literal["chat", "transcript"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a stage asks for.

    Attributes:
        ask: A question after the dialogue; empty for none.
        turns: Further turns, the model's first, alternating; each with its cue in a transcript, empty for none.
        cue: In a transcript, what the answer follows; None for the listener's.
        task: A task in place of the template's; empty for none at all.
        sees_dialogue: Whether the prompt has the dialogue.
    """

    ask: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    cue: str | None = None
    task: str | None = None
    sees_dialogue: bool = True


NOTHING_MORE = Asked()
"""Nothing but the listener's reply is asked for."""


class Prompts:
    """Renders prompts from a template in one layout.

    Args:
        template: The template.
        layout: "chat" or "transcript".
        system_role: Whether the model's chat template supports system messages; if not, the text begins the first user
            message.
    """

    def __init__(self, template: Template, layout: Layout = "chat", system_role: bool = True) -> None:
        self.template, self.layout, self.system_role = template, layout, system_role

    @property
    def stop(self) -> tuple[str, ...]:
        """Stop strings: models tend to continue a transcript beyond the reply."""
        return self.template.context.stop if self.layout == "transcript" else ()

    def describe(self) -> dict[str, Any]:
        """Return the manifest's record of the prompts."""
        named = {"variant": self.template.name, "prompt_sha256": self.template.sha256}
        return {**named, "layout": self.layout, "system_role": self.system_role}

    def messages(
        self,
        dialogue: Dialogue,
        exemplars: Sequence[Dialogue] = (),
        additions: Sequence[str] = (),
        asked: Asked = NOTHING_MORE,
        *,
        instruction: str = "",
    ) -> list[Message]:
        """Render one prompt.

        Args:
            dialogue: The dialogue context.
            exemplars: Exemplars, in order.
            additions: Texts after the last turn (inferences), before what is asked.
            asked: What is asked after the dialogue; by default nothing but a reply.
            instruction: The caller's addition to the task (for a server, the client's system message).
        """
        usual = asked.task is None and not exemplars and not instruction
        task = self._usual.content if usual else self._task(exemplars, instruction, asked)
        if self.layout == "transcript":
            return [Message("user", self._transcript(task, dialogue, bool(exemplars), additions, asked))]
        texts = [*additions, asked.ask] if asked.ask else additions
        turns = [*dialogue.turns] if asked.sees_dialogue else []
        if turns and texts:
            turns[-1] = "\n\n".join([turns[-1], *texts])
        elif not turns:
            turns = ["\n\n".join(texts)]
        if asked.turns:
            turns += [text for _, text in asked.turns]
        if task and not self.system_role:
            turns[0] = f"{task.rstrip()}\n\n{turns[0]}"
        messages = [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]
        if task and self.system_role:
            messages.insert(0, self._usual if usual else Message("system", task))
        return messages

    def lines(self, dialogue: Dialogue) -> str:
        """Return the dialogue as lines of speaker and listener."""
        return "\n".join(self.template.context.lines.write(dialogue.turns))

    def knowledge(self, inferences: Mapping[str, Sequence[str]]) -> str | None:
        """Return the block of Eq. 8 and 9, definitions and inferences of the relations; None without inferences."""
        data = self.template.knowledge
        lines = [
            data.relation.format(label=label, inferences=data.between.join(inferences[name]))
            for name, label in data.labels.items()
            if inferences.get(name)
        ]
        return "\n".join([data.introduction, *data.definitions.values(), *lines]) + data.end if lines else None

    @cached_property
    def _usual(self) -> Message:
        """The system message of prompts without exemplars, the caller's addition and a task of their own."""
        return Message("system", self._task((), "", NOTHING_MORE))

    def _task(self, exemplars: Sequence[Dialogue], added: str, asked: Asked) -> str:
        task, style = self.template.task, self.template.exemplars
        if asked.task is None:
            definition, joint = task.definition, task.joint_before_exemplars if exemplars else task.joint
            guideline = f"{task.guideline}\n\n{added}" if added else task.guideline
            instruction = definition + joint + guideline
        else:
            instruction = "\n\n".join(filter(None, (asked.task, added)))
        if not exemplars:
            return instruction
        write = style.chat.write if self.layout == "chat" else style.transcript.write
        one = len(exemplars) == 1
        blocks = [
            "\n".join([style.title_one if one else style.title_many.format(number=number), *write(shown)])
            for number, shown in enumerate((exemplar.complete_turns for exemplar in exemplars), 1)
        ]
        heading = style.heading_one if one else style.heading_many
        shown_first = f"{instruction}\n\n{heading}" if instruction else heading
        return f"{shown_first}\n\n{style.separator.join(blocks)}{style.end}"

    def _transcript(
        self, task: str, dialogue: Dialogue, after_exemplars: bool, additions: Sequence[str], asked: Asked
    ) -> str:
        context = self.template.context
        texts = [*additions, asked.ask] if asked.ask else list(additions)
        parts = [task.rstrip("\n")]
        if asked.sees_dialogue:
            heading = context.heading_after_exemplars if after_exemplars else context.heading
            parts += [heading, self.lines(dialogue)]
        begin = "\n\n".join(filter(None, [*parts, *texts])) + ("\n\n" if texts else "\n")
        end = [f"{cue} {text}" if cue and (number or texts) else text for number, (cue, text) in enumerate(asked.turns)]
        return begin + "\n\n".join([*end, context.cue if asked.cue is None else asked.cue])
