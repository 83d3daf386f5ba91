"""Renders the unified prompt template (section 3.2) as messages.

    Task Definition + Guideline Instruction + Exemplars (optional) + Dialogue Context (+ additions of section 3.3)

There are two layouts. In the chat layout, task and exemplars are the system message, and the dialogue's turns are user
and assistant messages; in the transcript layout, everything is one text that ends where the listener speaks. Texts that
all dialogues of a run share come first, so that an engine's prefix cache applies.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from localemp.dialogue import EMOTIONS, Dialogue, Message
from localemp.prompting.template import Template

Layout = Literal["chat", "transcript"]


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
        thought: str | None = None,
        *,
        thinking: bool = False,
        instruction: str = "",
    ) -> list[Message]:
        """Render one prompt.

        Args:
            dialogue: The dialogue context.
            exemplars: Exemplars, in order.
            additions: Texts after the last turn (inferences, the stage-1 question).
            thought: Result of stage 1; the prompt then asks for a reply that uses it (stage 2).
            thinking: Whether the additions end with the stage-1 question, which changes the cue at the end of a
                transcript.
            instruction: The caller's addition to the task (for a server, the client's system message).
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
        """Return the stage-1 question for what is not `given` ("emotion", "situation"); None if both are."""
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
        """Return the input of stage 2: the stage-1 text, with a given emotion or situation inserted."""
        two_stage = self.template.two_stage
        parts = [
            emotion and two_stage.given_emotion.format(emotion=emotion),
            found and found.strip(),
            situation and two_stage.given_situation.format(situation=situation),
        ]
        return " ".join(part for part in parts if part)

    def knowledge(self, inferences: Mapping[str, Sequence[str]]) -> str | None:
        """Return the block of Eq. 8 and 9, definitions and inferences of the relations; None without inferences."""
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
        parts = [task.rstrip("\n"), heading, lines, *additions]
        text = "\n\n".join(filter(None, parts)) + ("\n\n" if additions else "\n")
        if thinking:
            return text + two_stage.cue
        if thought is None:
            return text + context.cue
        answered = f"{two_stage.cue} {thought}" if additions else thought
        return f"{text}{answered}\n\n{two_stage.reply}\n\n{context.cue}"
