"""What must hold between the stages of a flow, and in them beyond the types of their values."""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from localemp.errors import nearest
from localemp.prompting.flow import FACTS, FlowForm, Judge, Stage, Turn
from localemp.prompting.template import TwoStageTexts
from localemp.prompting.texts import Text

REPLY = "reply"
VARIANT_TEXTS = ("ask_both", "ask_emotion", "ask_situation", "given_emotion", "given_situation", "reply")
"""Texts of a prompt variant's table [two_stage] that a flow can show: `{variant.ask_both}`."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_OWN_WORDS = (*FACTS, "emotions", "dialogue", "labels", "branch", "candidates", "variant")
assert set(VARIANT_TEXTS) <= set(TwoStageTexts.model_fields)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a flow.

    Attributes:
        stage: Number of the stage, from 0; None for the whole file.
        key: The key, as in "turns[2]".
        message: What is wrong.
        hint: What to do.
    """

    stage: int | None
    key: str
    message: str
    hint: str = ""


def problems_of(flow: FlowForm) -> Iterator[Problem]:
    """Yield everything that is wrong between stages, in the order of the file."""
    stages = flow.stages
    for at, stage in enumerate(stages):
        for key, message, hint in (
            *_name(stages, at),
            *_turns(stage),
            *_sees(stage),
            *_answer(stage, last=at == len(stages) - 1),
            *_candidates(stage),
            *_conditions(stages, at),
            *_placeholders(stages, at),
            *_use(stages, at),
        ):
            yield Problem(at, key, message, hint)


_Found = Iterator[tuple[str, str, str]]


def _name(stages: Sequence[Stage], at: int) -> _Found:
    name, last = stages[at].name, at == len(stages) - 1
    if not _NAME.fullmatch(name):
        yield "name", f"{name[:60]!r} is not a name", "use lower-case letters, digits and underscores, a letter first"
    elif name in _OWN_WORDS:
        yield "name", f"{name!r} has a meaning in placeholders", "give the stage another name"
    elif name in [stage.name for stage in stages[:at]]:
        yield "name", f"an earlier stage is called {name!r}, too", "give each stage its own name"
    elif last and name != REPLY:
        yield "name", f"the last stage is called {name!r}", f'it is the reply: call it "{REPLY}"'
    elif name == REPLY and not last:
        yield "name", f"{REPLY!r} is not the last stage", "the reply is the last stage; rename this one, or move it"


def _turns(stage: Stage) -> _Found:
    if stage.ask is not None and stage.turns is not None:
        yield "turns", "there is an ask, too", "ask is short for one turn of the user; keep one of the two"
    for number, turn in enumerate(stage.turns or (), 1):
        if (turn.user is None) == (turn.assistant is None):
            yield f"turns[{number}]", "it must be the user's or the assistant's", 'for example { user = "..." }'
        elif turn.cue is not None and turn.assistant is None:
            yield f"turns[{number}]", "only an assistant's turn has a cue", "leave it out"
    for number, (before, after) in enumerate(pairwise(stage.turns or ()), 2):
        if _by(before) == _by(after):
            yield f"turns[{number}]", f"two turns of the {_by(after)} in a row", "make them one, or put a turn between"
    if stage.turns and _by(stage.turns[-1]) == "assistant":
        yield "turns", "the last turn is the assistant's", "end with a user's turn, which the model answers"


def _by(turn: Turn) -> str:
    return "assistant" if turn.user is None else "user"


def _sees(stage: Stage) -> _Found:
    if stage.task is not None and "task" not in stage.sees:
        yield "sees", "the stage has a task that it does not see", 'add "task", or leave the task out'
    if "dialogue" not in stage.sees and not stage.shown:
        yield "sees", "without the dialogue nothing is asked", 'add "dialogue", or an ask'
    if "dialogue" not in stage.sees and stage.shown and _by(stage.shown[0]) == "assistant":
        yield "turns[1]", "without the dialogue the first turn must be the user's", 'add "dialogue" to sees'


def _answer(stage: Stage, *, last: bool) -> _Found:
    if stage.labels is not None and stage.json_schema is not None:
        yield "schema", "the stage has labels, too", "its answer is one of them, or JSON; keep one of the two"
    if last and stage.labels is not None:
        yield "labels", "the reply is a text", "choose the label in an earlier stage"
    if last and stage.json_schema is not None:
        yield "schema", "the reply is a text", "ask for JSON in an earlier stage, and quote a field of it"
    labels = stage.all_labels
    folded = [label.strip().casefold() for label in labels]
    if len(set(folded)) < len(folded) or "" in folded:
        yield "labels", "two labels are the same, or one is blank", "labels must differ by more than case and spaces"
    if stage.otherwise is not None and stage.otherwise not in labels:
        near = nearest(stage.otherwise, labels)
        hint = f"did you mean {near!r}?" if near else "give one of the labels"
        yield "otherwise", f"{stage.otherwise[:60]!r} is none of the labels", hint
    if stage.json_schema is not None:
        yield from _schema(stage.json_schema)


def _schema(schema: dict[str, object]) -> _Found:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    fields = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(fields, dict) or not fields:
        yield "schema", "it must describe an object with properties", 'schema = { type = "object", properties = {...} }'
        return
    if "$ref" in str(schema):
        yield "schema", "it refers to another schema", "write everything out"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = ".".join(["schema", *map(str, error.path)])
        yield where, error.message[:200], "see json-schema.org for the form"


def _candidates(stage: Stage) -> _Found:
    if stage.n > 1 and stage.choose is None:
        yield (
            "n",
            f"nothing chooses among {stage.n} candidates",
            'add choose = "vote", or a judge: choose = { ask = "..." }',
        )
    if stage.n == 1 and stage.choose is not None:
        yield "choose", "there is only one candidate", "add n = 4, or leave choose out"
    if stage.n > 1 and not stage.sampling.temperature:
        yield (
            "n",
            f"{stage.n} candidates at temperature 0 are the same",
            "add a temperature: sampling = { temperature = 0.8 }",
        )
    if stage.choose == "vote" and stage.labels is None:
        yield "choose", "only labels can be voted on", 'give the stage labels, or a judge: choose = { ask = "..." }'
    if isinstance(stage.choose, Judge):
        if "candidates" not in Text.parse(stage.choose.ask).names:
            yield "choose.ask", "it does not show {candidates}", "add the placeholder where they should stand"
        if stage.choose.task is not None and "task" not in stage.choose.sees:
            yield "choose.sees", "the judge has a task that it does not see", 'add "task", or leave the task out'


def _conditions(stages: Sequence[Stage], at: int) -> _Found:
    stage = stages[at]
    if stage.when is not None and at == len(stages) - 1:
        yield "when", "the reply always runs", "use branch to word it by a label"
    for by, wanted in (stage.when or {}).items():
        labels = yield from _labels_of(stages, at, "when", by)
        for label in wanted if labels else ():
            if label not in labels:
                yield f"when.{by}", *_no_label(label, by, labels)
    for by, texts in (stage.branch or {}).items():
        labels = yield from _labels_of(stages, at, "branch", by)
        for label in texts if labels else ():
            if label not in labels:
                yield f"branch.{by}", *_no_label(label, by, labels)
        if missing := [label for label in labels if label not in texts]:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            yield f"branch.{by}", f"no text for {listed}", "give a text for every label"
    if stage.branch and (stage.ask is not None or stage.turns is not None) and "branch" not in stage.placeholders:
        yield "branch", "no text of the stage shows {branch}", "add the placeholder, or leave ask and turns out"


def _labels_of(
    stages: Sequence[Stage], at: int, key: str, by: str
) -> Generator[tuple[str, str, str], None, tuple[str, ...]]:
    """Yield what is wrong with a stage whose label decides; return its labels."""
    earlier = {stage.name: stage for stage in stages[:at]}
    if by not in earlier:
        yield f"{key}.{by}", f"there is no earlier stage {by[:60]!r}", _known(by, earlier)
        return ()
    if not earlier[by].all_labels:
        yield f"{key}.{by}", f"the answer of {by} is not one of a list", f"give stage {by} labels"
    return earlier[by].all_labels


def _no_label(label: str, by: str, labels: Sequence[str]) -> tuple[str, str]:
    return f"{label[:60]!r} is no label of {by}", _known(label, labels)


def _placeholders(stages: Sequence[Stage], at: int) -> _Found:
    stage = stages[at]
    earlier = {each.name: each for each in stages[:at]}
    later = [each.name for each in stages[at:]]
    known = [*earlier, *FACTS, "emotions", "dialogue", *(["labels"] if stage.all_labels else [])]
    known += [*(["branch"] if stage.branch else []), *[f"variant.{name}" for name in VARIANT_TEXTS]]
    for key, text in stage.texts():
        here = [*known, "candidates"] if key.startswith("choose.") else known
        if key.startswith("branch."):
            here = [name for name in here if name != "branch"]
        for name in Text.parse(text).names:
            first, dot, field = name.partition(".")
            if name in here or (not dot and name in earlier):
                continue
            if first in later:
                yield (
                    key,
                    f"{{{name}}} comes later" if first != stage.name else f"{{{name}}} is the stage itself",
                    ("a stage quotes only stages before it"),
                )
            elif dot and first in earlier:
                fields = (earlier[first].json_schema or {}).get("properties", {})
                if not fields:
                    yield (
                        key,
                        f"{{{name}}}: the answer of {first} is not JSON",
                        f"write {{{first}}}, or give it a schema",
                    )
                elif field not in fields:
                    yield key, f"{{{name}}}: the schema of {first} has no {field[:60]!r}", _known(field, list(fields))
            else:
                yield key, f"unknown placeholder {{{name[:60]}}}", _known(name, here, "{%s}")


def _use(stages: Sequence[Stage], at: int) -> _Found:
    name = stages[at].name
    if at < len(stages) - 1 and not any(name in later.quoted for later in stages[at + 1 :]):
        yield "name", f"no later stage uses the answer of {name}", f"quote it as {{{name}}}, or leave the stage out"


def _known(name: str, known: Sequence[str] | dict[str, Stage], form: str = "%s") -> str:
    if near := nearest(name, known):
        return f"did you mean {form % near}?"
    return f"known: {', '.join(form % each for each in known)}" if known else "there is none"
