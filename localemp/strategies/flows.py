"""Runs flows, strategies that are files (`prompting/flow_files.py`): `zero-shot`, `two-stage`, or the user's own."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from localemp.dialogue import Dialogue
from localemp.engines.base import PLANNED
from localemp.engines.labels import label_schema
from localemp.errors import OptionError, UnknownNameError
from localemp.prompting.flow import FACTS, GIVEN, REPLY, Judge, Stage
from localemp.prompting.flow_files import FlowFile, bundled_flows, form_for, load_flow
from localemp.prompting.template import Template
from localemp.strategies.answers import find_label, quoted, read_answer
from localemp.strategies.base import Exchange, Flow
from localemp.strategies.base import Stage as Call
from localemp.strategies.cleaning import clean_reply
from localemp.strategies.parts import Part, PartContext
from localemp.strategies.questions import Question, judge_question_of, question_of, variant_texts
from localemp.utils.json_reader import parse_json
from localemp.utils.option import Option
from localemp.utils.together import together

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


_More = dict[str, str] | None
"""Further texts that can be shown."""


@dataclass(slots=True)
class _State:
    """What is known so far of one dialogue on its way through a flow.

    Attributes:
        exchange: The exchange.
        quotes: What texts can show: facts of the dialogue, the answers so far, and the fields of those that are JSON.
        labels: The labels so far.
        dry: Whether an engine answered that only measures. Then every stage runs, and the longest texts are taken.
    """

    exchange: Exchange
    quotes: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    dry: bool = False

    def keep(self, stage: Stage, answer: Any, *, named: bool) -> None:
        """Keep what later stages quote of a label or of JSON; `named` says whether the engine's text is the label."""
        if stage.all_labels:
            self.quotes[stage.name] = answer
            # An engine that only measures leaves it open, unless it names a label.
            if named or not self.dry:
                self.labels[stage.name] = answer
        for key in stage.fields:
            self.quotes[f"{stage.name}.{key}"] = quoted(answer.get(key))

    def skip(self, stage: Stage) -> None:
        """Have later stages quote a stage as nothing."""
        self.quotes |= dict.fromkeys([stage.name, *(f"{stage.name}.{key}" for key in stage.fields)], "")


class StagedFlow(Flow):
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
        texts = variant_texts(template, list_labels)
        self._questions = {stage.name: question_of(stage, template, texts, seed) for stage in file.stages}
        self._judges = {
            stage.name: judge_question_of(stage.choose, stage, template, texts, seed)
            for stage in file.stages
            if isinstance(stage.choose, Judge)
        }
        names = {name for each in (*self._questions.values(), *self._judges.values()) for name in each.names}
        self.facts = tuple(name for name in FACTS if name in names)
        self._shows_lines = "dialogue" in names

    @property
    def chooses_reply(self) -> bool:
        """Whether the reply is one of several candidates."""
        return self.file.stages[-1].n > 1

    @property
    def draws(self) -> bool:
        """Whether a stage or a judge has a temperature of its own."""
        judges = [stage.choose.sampling for stage in self.file.stages if isinstance(stage.choose, Judge)]
        return any(each.temperature for each in (*(stage.sampling for stage in self.file.stages), *judges))

    def check(self, dialogue: Dialogue) -> None:
        """Raise OptionError if the dialogue lacks a fact that a text shows."""
        for name in self.facts:
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
        state, dialogue = _State(exchange), exchange.draft.dialogue
        for name in self.facts:
            state.quotes[name] = getattr(dialogue, name) or ""
        if self._shows_lines:
            state.quotes["dialogue"] = exchange.prompts.lines(dialogue)
        found = None if self.file.in_a_row else await self._run_at_once(state)
        for stage in self.file.stages:
            calls = await self._run_stage(stage, state) if found is None else found[stage.name]
            if calls:
                exchange.add(calls)
            else:
                exchange.skipped.append(stage.name)

    async def _run_at_once(self, state: _State) -> dict[str, list[Call]]:
        """Run every stage as soon as those that it needs have run; return the calls of each."""
        ready = {stage.name: asyncio.Event() for stage in self.file.stages}
        found: dict[str, list[Call]] = {}

        async def run(stage: Stage) -> None:
            for name in self.file.needs[stage.name]:
                await ready[name].wait()
            found[stage.name] = await self._run_stage(stage, state)
            ready[stage.name].set()

        await together(run(stage) for stage in self.file.stages)
        return found

    async def _run_stage(self, stage: Stage, state: _State) -> list[Call]:
        """Run one stage; the answers that it needs are there.

        Returns:
            The calls, the chosen answer last; none if the stage does not run.
        """
        if stage.when and not state.dry and any(state.labels.get(by) not in told for by, told in stage.when.items()):
            state.skip(stage)
            return []
        question = self._questions[stage.name]
        branch = {"branch": _branch(stage, question, state)} if stage.branch else None
        calls = await _call(stage.name, question, state, branch, candidates=stage.n)
        state.dry = state.dry or calls[-1].completion.finish_reason == PLANNED
        if stage.n > 1:
            calls = await self._choose(stage, calls, state, branch)
        chosen = calls[-1]
        state.quotes[stage.name] = chosen.completion.require_text().strip()
        if stage.all_labels or stage.fields:
            answer = _dry_answer(stage, chosen) if state.dry else read_answer(stage, chosen.completion)
            calls[-1] = replace(chosen, answer=answer)
            state.keep(stage, answer, named=answer == chosen.completion.text)
        return calls

    async def _choose(self, stage: Stage, calls: Sequence[Call], state: _State, branch: _More) -> list[Call]:
        """Return the calls behind an answer: candidates that were not chosen, the judge's, and the chosen one."""
        trims = state.exchange.trims
        usable = [call for call in calls if _said(stage, call, trims)] or list(calls)
        judged: list[Call] = []
        if not isinstance(stage.choose, Judge):
            chosen = _voted(stage, usable)
        elif len({_said(stage, call, trims) for call in usable}) == 1 and not state.dry:
            chosen = usable[0]
        else:
            number, call = await self._judge(stage, usable, state, branch)
            chosen, judged = usable[number], [call]
        others = [replace(call, name=f"{stage.name}.candidate") for call in calls if call is not chosen]
        return [*others, *judged, chosen]

    async def _judge(self, stage: Stage, candidates: Sequence[Call], state: _State, branch: _More) -> tuple[int, Call]:
        """Return the place of the candidate that the judge chose, and the judge's call."""
        numbers = [str(number) for number in range(1, len(candidates) + 1)]
        said = [_said(stage, each, state.exchange.trims) for each in candidates]
        shown = [f"{number}. {text}" for number, text in zip(numbers, said, strict=True)]
        question = self._judges[stage.name]
        question = replace(question, sampling={**question.sampling, "schema": label_schema(numbers)})
        more = {**(branch or {}), "candidates": "\n".join(shown)}
        (call,) = await _call(f"{stage.name}.choice", question, state, more)
        number = find_label(call.completion.text, numbers)
        if number is None and not state.dry:
            notes = (*call.completion.notes, "it named no candidate: the first is taken")
            call = replace(call, completion=replace(call.completion, notes=notes))
        return numbers.index(number or "1"), replace(call, answer=number or "1")


def _call(
    name: str, question: Question, state: _State, more: _More, candidates: int = 1
) -> Coroutine[Any, Any, list[Call]]:
    run = state.exchange.sampling
    return state.exchange.call(
        name,
        question.asked(state.quotes | more if more else state.quotes),
        question.sampled(run if name == REPLY else run.before_reply()),
        exemplars=question.sees_exemplars,
        knowledge=question.sees_knowledge,
        candidates=candidates,
    )


def _branch(stage: Stage, question: Question, state: _State) -> str:
    """Return the text for the label that decides: nothing without a label, and the longest one in a dry run."""
    (by,) = stage.branch or ("",)
    if state.dry and by not in state.labels:
        return max((text.fill(state.quotes) for text in question.branch.values()), key=_size)
    text = question.branch.get(state.labels.get(by, ""))
    return "" if text is None else text.fill(state.quotes)


def _said(stage: Stage, candidate: Call, trims: bool) -> str:
    """Return a candidate as it would be quoted, or as the reply that it would be."""
    answer = candidate.completion
    return clean_reply(answer.text, answer.finish_reason, trims=trims) if stage.name == REPLY else answer.text.strip()


def _voted(stage: Stage, candidates: Sequence[Call]) -> Call:
    """Return the first candidate with the label that most of them have; one without a label only if all have none."""
    votes = [find_label(call.completion.text, stage.all_labels) for call in candidates]
    ((most, _),) = Counter([vote for vote in votes if vote] or votes).most_common(1)
    return candidates[votes.index(most)]


def _dry_answer(stage: Stage, call: Call) -> Any:
    """Return what stands for the answer in a dry run: the longest label, or the text in every field of the JSON.

    An engine that shows prompts names a label, or gives JSON, itself.
    """
    text = call.completion.text
    if stage.all_labels:
        return text if text in stage.all_labels else max(stage.all_labels, key=_size)
    if not stage.fields:
        return None
    return parse_json(text) if text.startswith("{") else dict.fromkeys(stage.fields, text.strip())


def _size(text: str) -> int:
    """Return a text's bytes, which are nearer to its tokens than its characters are."""
    return len(text.encode())


@cache
def _bundled(path: Path) -> FlowFile:
    return load_flow(path)


def zero_shot(template: Template) -> StagedFlow:
    """Return the flow of strategies without one of their own: one call."""
    return StagedFlow(_bundled(bundled_flows()["zero-shot"]), template)


def flow_part(path: Path, *, offered: bool = False) -> Part:
    """Return the part of strategies that a flow's file is.

    Args:
        path: The file. Its forms for given facts are beside it.
        offered: Whether `serve` offers it without being told to.

    Raises:
        PromptError: The file is not a valid flow.
    """
    file = load_flow(path)  # first: it tells what is wrong with the path
    forms = {given: form_for(path, given) for given in GIVEN if form_for(path, given).exists()}
    return part_of(file, {given: partial(load_flow, form) for given, form in forms.items()}, offered=offered)


def part_of(file: FlowFile, forms: Mapping[tuple[str, ...], Callable[[], FlowFile]], *, offered: bool = False) -> Part:
    """Return the part of strategies that a flow is.

    Args:
        file: The flow.
        forms: Reads the flow's form for given facts.
        offered: Whether `serve` offers it without being told to.
    """
    has_forms = bool(forms)
    asks = {f"variant.{name}" for name in ("ask_both", "ask_emotion")}
    lists_labels = any(asks & set(stage.placeholders) for stage in file.stages)
    options = ((GIVEN_FACTS,) if has_forms else ()) + ((LIST_LABELS,) if lists_labels else ())

    def make(context: PartContext) -> Flow:
        told = context.option(GIVEN_FACTS) if has_forms else ()
        for name in told:
            if name not in FACTS:
                raise UnknownNameError("--given", name, FACTS)
        given = tuple(name for name in FACTS if name in told)
        if given and given not in forms:
            path = Path(file.where)
            raise OptionError(
                f"--given {' --given '.join(given)}: {path.name} has no form for it", f"write {form_for(path, given)}"
            )
        values = {option.name: context.option(option) for option in options}
        values |= {GIVEN_FACTS.name: list(given)} if has_forms else {}
        return StagedFlow(
            forms[given]() if given else file,
            context.template,
            given=given,
            list_labels=values.get(LIST_LABELS.name),
            seed=context.seed,
            settings=values,
        )

    return Part(about=file.about, place="flow", make=make, options=options, offered=offered)
