"""What must hold between the stages of a flow, and in them beyond the types of their values."""

import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import pairwise

from localemp.errors import nearest
from localemp.prompting.answer_schema import problems_of_schema
from localemp.prompting.flow import FACTS, MOST_PLACEHOLDERS, REPLY, VARIANT_TEXTS, FlowForm, Judge, Stage, Turn
from localemp.prompting.flow_problems import Found, Problem, above_branch, did_you_mean
from localemp.prompting.texts import Text
from localemp.utils.text import for_terminal, one_line
from localemp.utils.toml_lines import Place

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_WORDS = 100
_OWN_WORDS = (*FACTS, "emotions", "dialogue", "labels", "branch", "candidates", "variant")


def is_stage_name(name: str) -> bool:
    """Return whether a name has the form of a stage's."""
    return _NAME.fullmatch(name) is not None


def problems_of(flow: FlowForm) -> Iterator[Problem]:
    """Yield everything that is wrong between stages, stage by stage."""
    stages = flow.stages
    for at, stage in enumerate(stages):
        for place, message, hint in (
            *_name(stages, at),
            *_turns(stage),
            *_sees(stage),
            *_answer(stage, last=at == len(stages) - 1),
            *_candidates(stage),
            *_conditions(stages, at),
            *_placeholders(stages, at),
            *_size(stage),
            *_use(stages, at),
        ):
            yield Problem(("stages", at, *place), message, hint)


def _name(stages: Sequence[Stage], at: int) -> Found:
    name, last = stages[at].name, at == len(stages) - 1
    if not is_stage_name(name):
        hint = "begin with a letter, then lower-case letters, digits and underscores, 40 at most"
        yield ("name",), f"{one_line(name, 60)!r} is not a name for a stage", hint
    elif name in _OWN_WORDS:
        yield ("name",), f"the name is reserved: {{{name}}} has a meaning of its own", "give the stage another name"
    elif name in [stage.name for stage in stages[:at]]:
        yield ("name",), "an earlier stage has the same name", "give each stage its own name"
    elif last and name != REPLY and REPLY not in [stage.name for stage in stages]:
        hint = f'the last stage is the reply: name it "{REPLY}", or add a stage of that name'
        yield ("name",), f"the last stage is called {name!r}", hint
    elif name == REPLY and not last:
        yield ("name",), f"{REPLY!r} is not the last stage", "move it to the end of the file, or rename it"


def _turns(stage: Stage) -> Found:
    if stage.ask is not None and stage.turns is not None:
        yield ("turns",), "a stage has ask or turns, not both", "ask is short for a single turn of the user; keep one"
    for at, turn in enumerate(stage.turns or ()):
        if (turn.user is None) == (turn.assistant is None):
            yield ("turns", at), "a turn is either the user's or the assistant's", 'for example { user = "..." }'
        elif turn.cue is not None and turn.assistant is None:
            yield ("turns", at), "only an assistant's turn has a cue", "remove the cue"
    for at, (before, after) in enumerate(pairwise(stage.turns or ()), 1):
        if _by(before) == _by(after):
            yield ("turns", at), f"it is the {_by(after)}'s, like the one before", "make them one, or put one between"
    if stage.turns is not None and not stage.turns:
        yield ("turns",), "it is empty", "remove it if nothing is asked"
    elif stage.turns and _by(stage.turns[-1]) == "assistant":
        yield ("turns",), "the last turn is the assistant's", "end with a user's turn, which the model answers"


def _by(turn: Turn) -> str:
    return "assistant" if turn.user is None else "user"


def _sees(stage: Stage) -> Found:
    if stage.task is not None and "task" not in stage.sees:
        yield ("sees",), '"task" is missing, though the stage has a task', "add it, or remove the task"
    if "dialogue" not in stage.sees and not stage.shown:
        yield ("sees",), "the prompt would be empty: it has no dialogue and no ask", 'add "dialogue", or an ask'
    if "dialogue" not in stage.sees and stage.shown and _by(stage.shown[0]) == "assistant":
        yield ("turns", 0), "without the dialogue the first turn must be the user's", 'add "dialogue" to sees'


def _answer(stage: Stage, *, last: bool) -> Found:
    if stage.labels is not None and stage.json_schema is not None:
        yield ("schema",), "a stage has labels or a schema, not both", "its answer is a label, or JSON; keep one"
    if last and stage.labels is not None:
        yield ("labels",), "the reply is a text and has no labels", "choose the label in an earlier stage"
    if last and stage.json_schema is not None:
        yield (
            ("schema",),
            "the reply is a text and has no schema",
            "ask for JSON in an earlier stage, and quote a field of it",
        )
    yield from _labels(stage.all_labels)
    if stage.otherwise is not None and not stage.all_labels:
        yield ("otherwise",), "the stage has no labels", "add labels, or remove it"
    elif stage.otherwise is not None and stage.otherwise not in stage.all_labels:
        hint = did_you_mean(stage.otherwise, stage.all_labels)
        yield ("otherwise",), f"{one_line(stage.otherwise, 60)!r} is not among the labels", hint
    if stage.json_schema is not None:
        for place, message, hint in problems_of_schema(stage.json_schema):
            yield ("schema", *place), message, hint


def _labels(labels: Sequence[str]) -> Found:
    for at, label in enumerate(labels):
        if label != for_terminal(" ".join(label.split())):
            yield (
                ("labels", at),
                f"{one_line(repr(label), 60)} is not a plain line",
                "remove spaces around it, line ends and control characters",
            )
    for label, count in Counter(label.casefold() for label in labels).items():
        if count > 1:
            yield ("labels",), f"{one_line(label, 60)!r} is listed {count} times; case does not count", "keep one"


def _candidates(stage: Stage) -> Found:
    if stage.n > 1 and stage.choose is None:
        vote = 'choose = "vote", or ' if stage.labels is not None else ""
        hint = f'add {vote}a judge: choose = {{ ask = "... {{candidates}} ..." }}'
        yield ("n",), f"nothing chooses among {stage.n} candidates", hint
    if stage.n == 1 and stage.choose is not None:
        yield ("choose",), "there is only one candidate", "add n = 4, or remove choose"
    if stage.n > 1 and not stage.sampling.temperature:
        hint = "add sampling = { temperature = 0.8 }; at temperature 0 all candidates are the same"
        yield ("n",), f"{stage.n} candidates need a temperature", hint
    if stage.choose == "vote" and stage.labels is None:
        labels = "" if stage.name == REPLY else "labels, or "
        hint = f'give the stage {labels}a judge: choose = {{ ask = "... {{candidates}} ..." }}'
        yield ("choose",), "only labels can be voted on", hint
    if isinstance(stage.choose, Judge):
        if "candidates" not in Text.parse(stage.choose.ask).names:
            yield ("choose", "ask"), "it does not show {candidates}", "add it where the candidates go"
        if stage.choose.task is not None and "task" not in stage.choose.sees:
            yield ("choose", "sees"), '"task" is missing, though the judge has a task', "add it, or remove the task"


def _conditions(stages: Sequence[Stage], at: int) -> Found:
    stage = stages[at]
    if stage.when is not None and at == len(stages) - 1:
        yield ("when",), "the reply always runs", "use branch to word it by a label"
    for by, wanted in (stage.when or {}).items():
        labels = yield from _labels_of(stages, at, "when", by)
        if not wanted:
            yield ("when", by), "it is empty, so the stage would never run", "name the labels for which it runs"
        for label in wanted if labels else ():
            if label not in labels:
                yield ("when", by), f"{one_line(label, 60)!r} is not a label of {by!r}", did_you_mean(label, labels)
    for by, texts in (stage.branch or {}).items():
        labels = yield from _labels_of(stages, at, "branch", by)
        for label in texts if labels else ():
            if label not in labels:
                hint = above_branch(label, ("stages", "branch", by, label)) or did_you_mean(label, labels)
                yield ("branch", by, label), f"{one_line(label, 60)!r} is not a label of {by!r}", hint
        if missing := [label for label in labels if label not in texts]:
            listed = ", ".join(one_line(label, 40) for label in missing[:5]) + (", ..." if len(missing) > 5 else "")
            yield ("branch", by), f"there is no text for {listed}", "give a text for every label"
    if stage.branch and (stage.ask is not None or stage.turns is not None) and "branch" not in stage.placeholders:
        yield ("branch",), "no text of the stage shows {branch}", "add the placeholder, or remove ask and turns"


def _labels_of(
    stages: Sequence[Stage], at: int, key: str, by: str
) -> Generator[tuple[Place, str, str], None, tuple[str, ...]]:
    """Yield what is wrong with a stage whose label decides; return its labels."""
    earlier = {stage.name: stage for stage in stages[:at]}
    if by not in earlier:
        with_labels = [name for name, stage in earlier.items() if stage.all_labels]
        hint = did_you_mean(by, with_labels) if with_labels else "give an earlier stage labels, and name it here"
        yield (key, by), f"there is no earlier stage {one_line(by, 60)!r}", hint
        return ()
    if not earlier[by].all_labels:
        yield (key, by), f"stage {by!r} has no labels", "give it labels, or name a stage that has some"
    return earlier[by].all_labels


def _placeholders(stages: Sequence[Stage], at: int) -> Found:
    earlier = {stage.name: stage for stage in stages[:at]}
    for place, text in stages[at].texts():
        for name in Text.parse(text).names:
            if problem := _placeholder(name, place, stages, at, earlier):
                yield place, *problem


def _size(stage: Stage) -> Found:
    """Yield a stage that quotes so often that its prompt could fill the memory."""
    counts = [(place, Text.parse(text).parts) for place, text in stage.texts()]
    branch = max((_named(parts) for place, parts in counts if place[0] == "branch"), default=0)
    shown = [name for place, parts in counts if place[0] != "branch" for _, name in parts if name]
    found = sum(branch if name == "branch" else 1 for name in shown)
    if max(found, branch) > MOST_PLACEHOLDERS:
        yield (), f"it has {max(found, branch):,} placeholders; {MOST_PLACEHOLDERS} are the most", "quote less often"


def _named(parts: Sequence[tuple[str, str]]) -> int:
    return sum(bool(name) for _, name in parts)


def _placeholder(
    name: str, place: Place, stages: Sequence[Stage], at: int, earlier: Mapping[str, Stage]
) -> tuple[str, str] | None:
    """Return what is wrong with a placeholder, and what to do; None if it is known."""
    stage, (first, _, field) = stages[at], name.partition(".")
    own = {
        "labels": bool(stage.all_labels),
        "branch": stage.branch is not None and place[0] != "branch",
        "candidates": place[0] == "choose",
    }
    known = [*earlier, *FACTS, "emotions", "dialogue", *(word for word, has in own.items() if has)]
    variants = [f"variant.{text}" for text in VARIANT_TEXTS]
    shown = f"{{{one_line(name, 60)}}}"
    if name in known or name in variants:
        return None
    if first == stage.name:
        return f"{shown} is the stage itself", "a stage quotes only stages before it"
    if first in [later.name for later in stages[at + 1 :]]:
        return f"{shown} comes later", "a stage quotes only stages before it; move that one up"
    if first in earlier:
        schema = earlier[first].json_schema
        fields = (schema or {}).get("properties")
        if schema is None:
            return f"{shown}: the answer of {first!r} is not JSON", f"write {{{first}}}, or give that stage a schema"
        if isinstance(fields, dict) and field not in fields:
            return f"{shown}: the schema of {first!r} has no field {one_line(field, 60)!r}", did_you_mean(field, fields)
        return None  # the schema is wrong, which is told
    if name in own:
        return _NOT_HERE[name]
    names = [*known, *variants] if nearest(name, variants) else known
    return f"unknown placeholder {shown}", did_you_mean(name, names, in_braces=True)


_NOT_HERE = {
    "labels": ("{labels}: the stage has no labels", 'give it some: labels = ["...", "..."], or labels = "emotions"'),
    "branch": ("{branch}: there is no branch here", "it shows a text of [stages.branch.STAGE], in ask and turns"),
    "candidates": ("{candidates} is for a judge", 'choose = { ask = "... {candidates} ..." }'),
}


def _use(stages: Sequence[Stage], at: int) -> Found:
    name, names = stages[at].name, {stage.name for stage in stages}
    if at == len(stages) - 1 or name == REPLY:
        return
    words = {word for later in stages[at + 1 :] for word in later.quoted}
    misspelt = any(nearest(word, [name]) for word in sorted(words - names)[:_MOST_WORDS])  # that is told already
    if name not in words and not misspelt:
        yield (), "no later stage uses its answer", f"quote it as {{{one_line(name, 60)}}}, or remove the stage"
