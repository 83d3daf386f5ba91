"""Runs flows, strategies that are files (`prompting/flow_files.py`): `zero-shot`, `two-stage`, or the user's own."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from localemp.dialogue import EMOTIONS, Dialogue
from localemp.engines.base import PLANNED
from localemp.errors import OptionError, UnknownNameError
from localemp.prompting.flow import FACTS, Judge, Stage, Turn
from localemp.prompting.flow_checks import REPLY, VARIANT_TEXTS
from localemp.prompting.flow_files import FlowFile, bundled_flows, form_for, load_flow
from localemp.prompting.render import Asked
from localemp.prompting.template import Template
from localemp.prompting.texts import Text, plain
from localemp.strategies.answers import answer_schema, find_label, label_schema, quoted, read_answer
from localemp.strategies.base import Exchange, Flow
from localemp.strategies.base import Stage as Call
from localemp.strategies.parts import Part, PartContext
from localemp.utils.option import Option

GIVEN_FACTS = Option(
    name="given",
    type=tuple[Literal["emotion", "situation"], ...],
    default=(),
    help="two-stage: take this from the data instead of inferring it; may be repeated.",
    of_data=True,
)
LIST_LABELS = Option(
    name="list_labels",
    type=bool | None,
    flags="--labels/--no-labels",
    help="two-stage: whether the question lists the 32 emotions; by default as the variant says.",
)


@dataclass(frozen=True, slots=True)
class _Question:
    """The texts and sampling of a stage, ready to be filled in for a dialogue.

    Attributes:
        task: In place of the prompt variant's; None for that one.
        first: The user's turn that joins the speaker's last one; None for none.
        turns: The turns after it: the cue in a transcript, and the text.
        cue: In a transcript, what the answer follows; None for the listener's.
        branch: The text for each label.
        sampling: The sampling parameters that differ from the run's.
    """

    task: Text | None
    first: Text | None
    turns: tuple[tuple[str, Text], ...]
    cue: str | None
    branch: Mapping[str, Text]
    sampling: Mapping[str, Any]

    @property
    def names(self) -> set[str]:
        """The placeholders in all texts."""
        texts = [self.task, self.first, *(text for _, text in self.turns), *self.branch.values()]
        return {name for text in texts if text is not None for name in text.names}


@dataclass(slots=True)
class _Talk:
    """One dialogue on its way through a flow.

    Attributes:
        exchange: The exchange.
        quotes: The answers so far, and the fields of those that are JSON, as texts quote them.
        labels: The labels so far.
        calls: The calls of each stage, the chosen answer last; none if it did not run.
        dry: Whether an engine answered that only measures.
    """

    exchange: Exchange
    quotes: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    dry: bool = False

    def fill(self, text: Text, more: Mapping[str, str] = {}) -> str:
        """Return a text with what is known of the dialogue, and with more."""

        def value(name: str) -> str:
            if name in more:
                return more[name]
            if name in self.quotes:
                return self.quotes[name]
            if name == "dialogue":
                return self.exchange.prompts.lines(self.exchange.draft.dialogue)
            return getattr(self.exchange.draft.dialogue, name) or ""

        return text.fill(value)


class FileFlow(Flow):
    """Makes the calls of a flow's stages, each as soon as the answers that it needs are there.

    Args:
        file: The flow.
        template: The prompt variant.
        given: The facts that the user said are the data's.
        list_labels: Whether the variant's questions list the 32 emotions; None for the variant's default.
        seed: Seed of stages that sample although the run does not.
        settings: What else the manifest records.
    """

    def __init__(
        self,
        file: FlowFile,
        template: Template,
        *,
        given: Sequence[str] = (),
        list_labels: bool | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.file, self.given, self.settings = file, tuple(given), dict(settings or {})
        texts = _variant_texts(template, list_labels)
        self._questions = {stage.name: _question(stage, stage, template, texts, seed) for stage in file.stages}
        self._judges = {
            stage.name: _question(stage.choose, stage, template, texts, seed)
            for stage in file.stages
            if isinstance(stage.choose, Judge)
        }
        names = {name for each in (*self._questions.values(), *self._judges.values()) for name in each.names}
        self._facts = tuple(name for name in FACTS if name in names)

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if the dialogue lacks a fact that a text shows."""
        for name in self._facts:
            if not getattr(dialogue, name):
                other = f"omit --given {name}" if name in self.given else f"leave {{{name}}} out of {self.file.where}"
                raise OptionError(f"dialogue {dialogue.id!r} has no {name}", f"{other}, or add it to the data")

    def describe(self) -> dict[str, Any]:
        """Return the flow's hash, and the values of its options."""
        return {**self.settings, "flow_sha256": self.file.sha256}

    async def run(self, exchange: Exchange) -> None:
        """Run the stages.

        Raises:
            EngineError: A request failed, or an answer cannot be read.
        """
        talk, stages = _Talk(exchange), self.file.stages
        if self.file.in_a_row:
            for stage in stages:
                await self._run_stage(stage, talk)
        else:
            await self._run_at_once(talk)
        exchange.stages += [call for stage in stages for call in talk.calls[stage.name]]

    async def _run_at_once(self, talk: _Talk) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}

        async def run(stage: Stage) -> None:
            for name in self.file.needs[stage.name]:
                await tasks[name]
            await self._run_stage(stage, talk)

        try:
            for stage in self.file.stages:
                tasks[stage.name] = asyncio.create_task(run(stage))
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _run_stage(self, stage: Stage, talk: _Talk) -> None:
        """Run one stage; the answers that it needs are there."""
        name, question = stage.name, self._questions[stage.name]
        if not talk.dry and any(talk.labels.get(by) not in wanted for by, wanted in (stage.when or {}).items()):
            talk.calls[name], talk.quotes[name] = [], ""
            return
        branch = self._branch(stage, question, talk)
        asked = _asked(question, stage, talk, {"branch": branch})
        calls = await self._call(name, asked, question, stage, talk, stage.n)
        talk.dry = talk.dry or calls[0].completion.finish_reason == PLANNED
        if stage.n > 1:
            calls = await self._choose(stage, calls, talk, branch)
        chosen = calls[-1]
        answer = _dry_answer(stage, chosen) if talk.dry else read_answer(stage, chosen.completion)
        talk.calls[name] = [*calls[:-1], replace(chosen, answer=answer)]
        if stage.all_labels:
            talk.labels[name] = talk.quotes[name] = answer
            return
        talk.quotes[name] = chosen.completion.text.strip()
        for key in (stage.json_schema or {}).get("properties", ()):
            talk.quotes[f"{name}.{key}"] = quoted(answer.get(key, ""))

    def _branch(self, stage: Stage, question: _Question, talk: _Talk) -> str:
        """Return the text for the label that decides; in a dry run, the longest one."""
        if not stage.branch:
            return ""
        if talk.dry:
            return max((talk.fill(text) for text in question.branch.values()), key=len)
        (by,) = stage.branch
        # A stage that did not run answered nothing.
        text = question.branch.get(talk.labels.get(by, ""))
        return "" if text is None else talk.fill(text)

    async def _call(
        self, name: str, asked: Asked, question: _Question, form: Stage | Judge, talk: _Talk, candidates: int = 1
    ) -> list[Call]:
        exchange, sampling = talk.exchange, talk.exchange.sampling
        if changes := dict(question.sampling):
            stop = (*sampling.stop, *changes.pop("stop", ()))
            sampling = replace(sampling, **{"seed": sampling.seed, **changes}, stop=stop)
        return await exchange.call(
            name,
            asked,
            sampling,
            exemplars="exemplars" in form.sees,
            knowledge="knowledge" in form.sees,
            candidates=candidates,
        )

    async def _choose(self, stage: Stage, calls: Sequence[Call], talk: _Talk, branch: str) -> list[Call]:
        """Return the calls behind an answer: candidates that were not chosen, the judge's, and the chosen one."""
        more: list[Call] = []
        usable = [call for call in calls if call.completion.text.strip()] or list(calls)
        if stage.choose == "vote":
            votes = [find_label(call.completion.text, stage.all_labels) for call in usable]
            ((most, _),) = Counter([vote for vote in votes if vote] or votes).most_common(1)
            chosen = usable[votes.index(most)]
        elif len({call.completion.text for call in usable}) == 1:
            chosen = usable[0]
        else:
            assert isinstance(stage.choose, Judge), "the file was checked"
            number, judged = await self._judge(stage, stage.choose, usable, talk, branch)
            more, chosen = [judged], usable[number]
        others = [replace(call, name=f"{stage.name}.candidate") for call in calls if call is not chosen]
        return [*others, *more, chosen]

    async def _judge(
        self, stage: Stage, judge: Judge, candidates: Sequence[Call], talk: _Talk, branch: str
    ) -> tuple[int, Call]:
        """Return the place of the candidate that a judge's prompt chose, and the call."""
        numbers = [str(number) for number in range(1, len(candidates) + 1)]
        shown = [f"{number}. {one.completion.text.strip()}" for number, one in zip(numbers, candidates, strict=True)]
        question = self._judges[stage.name]
        asked = _asked(question, judge, talk, {"branch": branch, "candidates": "\n".join(shown)})
        form = replace(question, sampling={**question.sampling, "schema": label_schema(numbers)})
        (call,) = await self._call(f"{stage.name}.choice", asked, form, judge, talk)
        number = find_label(call.completion.text, numbers)
        if number is None and not talk.dry:
            notes = (*call.completion.notes, "it named no candidate: the first is taken")
            call = replace(call, completion=replace(call.completion, notes=notes))
        return numbers.index(number or "1"), replace(call, answer=number or "1")


def _asked(question: _Question, form: Stage | Judge, talk: _Talk, more: Mapping[str, str]) -> Asked:
    return Asked(
        "" if question.first is None else talk.fill(question.first, more),
        tuple(
            (cue, text if at % 2 else text.strip())
            for at, (cue, text) in enumerate((cue, talk.fill(text, more)) for cue, text in question.turns)
        ),
        question.cue,
        None if question.task is None else talk.fill(question.task, more),
        "dialogue" in form.sees,
    )


def _question(form: Stage | Judge, stage: Stage, template: Template, texts: Mapping[str, Text], seed: int) -> _Question:
    """Return the texts of a stage, or of its judge, with those of the prompt variant."""
    turns = list(form.shown) if isinstance(form, Stage) else [Turn(user=form.ask)]
    fixed = {**texts, "emotions": plain(", ".join(EMOTIONS)), "labels": plain(", ".join(stage.all_labels))}

    def text(template_text: str) -> Text:
        return Text.parse(template_text).replace(fixed)

    first = text(turns.pop(0).text) if turns and turns[0].user is not None else None
    answers = template.two_stage.cue  # what an answer follows that is not a reply
    is_reply = isinstance(form, Stage) and form.name == REPLY
    sampling = {name: value for name, value in form.sampling.model_dump().items() if value not in (None, ())}
    if sampling.get("temperature", 0) > 0:
        sampling.setdefault("seed", seed)
    if isinstance(form, Stage) and (schema := answer_schema(form)):
        sampling["schema"] = schema
    return _Question(
        task=text(form.task or "") if form.task is not None or "task" not in form.sees else None,
        first=first,
        turns=tuple(
            ("" if turn.user is not None else answers if turn.cue is None else turn.cue, text(turn.text))
            for turn in turns
        ),
        cue=form.cue if isinstance(form, Stage) and form.cue is not None else None if is_reply else answers,
        branch={label: text(said) for said_by in ((stage.branch or {}).values()) for label, said in said_by.items()},
        sampling=sampling,
    )


def _variant_texts(template: Template, list_labels: bool | None) -> dict[str, Text]:
    """Return the texts of a prompt variant that flows can show, by placeholder."""
    two_stage = template.two_stage
    show = two_stage.list_labels if list_labels is None else list_labels
    labels = plain(two_stage.labels.format(emotions=", ".join(EMOTIONS)) if show else "")
    texts = {f"variant.{name}": Text.parse(getattr(two_stage, name)) for name in VARIANT_TEXTS if name != "reply"}
    texts = {name: text.replace({"labels": labels}) for name, text in texts.items()}
    return texts | {"variant.reply": plain(two_stage.reply)}  # the only one without placeholders


def _dry_answer(stage: Stage, call: Call) -> Any:
    """Return what stands for the answer in a dry run: the longest label, or the text in every field of the JSON."""
    if stage.all_labels:
        return max(stage.all_labels, key=len)
    fields = (stage.json_schema or {}).get("properties")
    return dict.fromkeys(fields, call.completion.text.strip()) if fields else None


@cache
def _bundled(path: Path) -> FlowFile:
    return load_flow(path)


def zero_shot(template: Template) -> FileFlow:
    """Return the flow of strategies without one of their own: one call."""
    return FileFlow(_bundled(bundled_flows()["zero-shot"]), template)


def flow_part(path: Path, *, offered: bool = False) -> Part:
    """Return the part of strategies that a flow's file is.

    Args:
        path: The file. Its forms for given facts are beside it.
        offered: Whether `serve` offers it without being told to.

    Raises:
        PromptError: The file is not a valid flow.
    """
    file = load_flow(path)
    has_forms = any(form_for(path, given).exists() for given in (("emotion",), ("situation",), FACTS))
    asks = {f"variant.{name}" for name in ("ask_both", "ask_emotion")}
    lists_labels = any(asks & set(stage.placeholders) for stage in file.stages)
    options = ((GIVEN_FACTS,) if has_forms else ()) + ((LIST_LABELS,) if lists_labels else ())

    def make(context: PartContext) -> Flow:
        told = context.option(GIVEN_FACTS) if has_forms else ()
        for name in told:
            if name not in FACTS:
                raise UnknownNameError("--given", name, FACTS)
        given = tuple(name for name in FACTS if name in told)
        chosen = form_for(path, given)
        if given and not chosen.exists():
            raise OptionError(f"--given {' --given '.join(given)}: {path.name} has no form for it", f"write {chosen}")
        values = {option.name: context.option(option) for option in options}
        values |= {GIVEN_FACTS.name: list(given)} if has_forms else {}
        return FileFlow(
            load_flow(chosen) if given else file,
            context.template,
            given=given,
            list_labels=values.get(LIST_LABELS.name),
            seed=context.seed,
            settings=values,
        )

    return Part(about=file.about, place="flow", make=make, options=options, offered=offered)
