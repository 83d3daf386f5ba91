"""The prompts of every stage for one dialogue, without a model: what `prompts show` shows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from localemp.dialogue import Dialogue, Message
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.flow import REPLY, Judge, Stage
from localemp.prompting.flow_files import FlowFile
from localemp.strategies.flows import StagedFlow


@dataclass(frozen=True, slots=True)
class ShownStage:
    """A stage's prompt, and what else is known of the stage beforehand.

    Attributes:
        name: The stage; of a judge, the name with ".choice".
        messages: The prompt. Texts in parentheses stand for earlier answers, and one label for each that is a label.
        tokens: Its length; None if only the server can count.
        when: The labels of an earlier stage with which alone the stage runs, by the name of that stage.
        candidates: Number of answers.
        chosen_by: How one of them is chosen: "vote" or "judge"; empty for a single one.
        sampling: The stage's own sampling parameters.
        labels: The possible answers, if the answer is one of a list.
        stands_for: The label that later prompts show as the answer; empty without labels.
        schema: The schema of the answer, if that is JSON.
        branch_by: The stage whose label decides on a text of this prompt; empty for none.
        branch: Those texts by label, as the file has them.
        branch_shown: The label whose text the prompt has.
    """

    name: str
    messages: tuple[Message, ...]
    tokens: int | None
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    candidates: int = 1
    chosen_by: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    stands_for: str = ""
    schema: Mapping[str, Any] | None = None
    branch_by: str = ""
    branch: Mapping[str, str] = field(default_factory=dict)
    branch_shown: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values; what most stages lack only if it is there."""
        told = {"stage": self.name, "tokens": self.tokens, "messages": [asdict(message) for message in self.messages]}
        more = {name: value for name, value in asdict(self).items() if name not in ("name", "messages", "tokens")}
        return told | {name: value for name, value in more.items() if value and (name, value) != ("candidates", 1)}


async def preview(pipeline: Pipeline, dialogue: Dialogue) -> list[ShownStage]:
    """Return the stages of the pipeline's strategy for a dialogue, in the order of the flow; no model is called.

    Raises:
        LocalempError: The dialogue lacks something, or something cannot be looked up.
        PromptTooLongError: A prompt does not fit the model's context.
    """
    flow = pipeline.strategy.flow
    if not isinstance(flow, StagedFlow):
        response = await pipeline.strategy.respond(dialogue, pipeline.planner(_Fillers()))
        return [ShownStage(call.name, call.messages, call.completion.prompt_tokens) for call in response.stages]
    fillers = _Fillers(flow.file)
    response = await pipeline.strategy.respond(dialogue, pipeline.planner(fillers))
    calls = {call.name: call for call in response.stages}
    shown = []
    for stage in flow.file.stages:
        call = calls[stage.name]
        by = next(iter(stage.branch or ()), "")
        chooser = stage.choose or ""
        shown.append(
            ShownStage(
                stage.name,
                call.messages,
                call.completion.prompt_tokens,
                when=stage.when or {},
                candidates=stage.n,
                chosen_by="judge" if isinstance(chooser, Judge) else chooser,
                sampling=stage.sampling.model_dump(exclude_none=True),
                labels=stage.all_labels,
                stands_for=fillers.labels.get(stage.name, ""),
                schema=stage.json_schema,
                branch_by=by,
                branch=(stage.branch or {}).get(by, {}),
                branch_shown=fillers.labels.get(by, ""),
            )
        )
        if isinstance(chooser, Judge):
            call = calls[f"{stage.name}.choice"]
            own = chooser.sampling.model_dump(exclude_none=True)
            shown.append(ShownStage(call.name, call.messages, call.completion.prompt_tokens, sampling=own))
    return shown


class _Fillers:
    """What stands for the answer of each stage.

    Args:
        file: The flow; None for one that is not a file.

    Attributes:
        labels: The label for each stage whose answer is one: with which all later stages run, else the first.
    """

    def __init__(self, file: FlowFile | None = None) -> None:
        self._stages: dict[str, Stage] = {} if file is None else {stage.name: stage for stage in file.stages}
        self._numbers = {name: number for number, name in enumerate(self._stages, 1)}
        wanted = {by: labels for stage in self._stages.values() for by, labels in (stage.when or {}).items()}
        self.labels = {
            name: next(iter(wanted.get(name, stage.all_labels)))
            for name, stage in self._stages.items()
            if stage.all_labels
        }

    def __call__(self, name: str) -> str:
        if name in self.labels:
            return self.labels[name]
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        if name == REPLY:
            return "(a candidate for the reply)"
        stage = self._stages.get(name)
        if stage is None or stage.json_schema is None:
            return f"(what the model finds in stage {number})"
        fields = stage.json_schema["properties"]
        return json.dumps({each: f"(what the model finds in stage {number}: {each})" for each in fields})
