"""Displays replies and their stages in the terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from localemp.pipeline.preview import ShownStage
from localemp.runs.bill import bill_of
from localemp.runs.run import thinking_tokens
from localemp.utils.formatting import known, of_which_thinking
from localemp.utils.text import for_terminal

# Characters of what a speaker said that a table shows; `runs show --index` shows all.
LONGEST_SHOWN = 600
_LONGEST_REPLY = 20_000  # of a model that does not stop; laying out megabytes takes minutes

_KINDS = {"candidate": ", a candidate that was not chosen", "choice": ", the choice among the candidates"}


def print_replies(records: Sequence[Mapping[str, Any]], title: str, numbers: Sequence[int]) -> None:
    """Print a table: the dialogue's number for `--index` and its id, the speaker's last turn, the reply."""
    if not records:
        return
    table = Table(title=plain(title), show_lines=True)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("Dialogue", max_width=24, overflow="fold")
    table.add_column("Speaker", ratio=1)
    table.add_column("Reply", ratio=1)
    for number, record in zip(numbers, records, strict=True):
        said = shorten(next(reversed(record["turns"]), ""), LONGEST_SHOWN, placeholder=" ...")
        reply = record["reply"]
        cut = f"{reply[:_LONGEST_REPLY]} ..." if len(reply) > _LONGEST_REPLY else reply
        table.add_row(str(number), plain(record["id"]), plain(said), plain(cut))
    Console().print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """Print one reply with all its stages."""
    console = Console()
    if "error" in record:
        console.print(plain(record["id"], "bold"), plain(record["error"]["type"], "red"))
        console.print(plain(record["error"]["message"]))
        if hint := record["error"].get("hint"):
            console.print(plain(f"hint: {hint}", "dim"))
        for line in bill_of([record], ()).lines():
            console.print(plain(line, "dim"))
        return
    print_opening(record, console)
    stages = StagePrinter(console)
    for stage in record["stages"]:
        stages.print(stage)
    print_ending(record, console)


def print_opening(record: Mapping[str, Any], console: Console) -> None:
    """Print a dialogue, and what was looked up for it."""
    speakers = ("Speaker", "Listener")
    turns = [plain(f"{speakers[i % 2]}: {turn}") for i, turn in enumerate(record["turns"])]
    about = ", ".join(f"{name}: {record[name]}" for name in ("emotion", "situation") if record[name])
    console.print(Panel(Group(*turns, *([plain(about, "dim")] if about else [])), title=plain(record["id"])))
    for shown in record["exemplars"]:
        score = "" if shown["score"] is None else f"  cosine {shown['score']:.4f}"
        console.print(plain(f"exemplar {shown['id']}{score}", "dim"))
    for relation, inferences in (record["inferences"] or {}).items():
        console.print(plain(f"{relation}: {', '.join(inferences) or '(none)'}", "dim"))
    for relation, dropped in record.get("inferences_dropped", {}).items():
        left_out = ", ".join(f"{one['text']} ({one['reason']})" for one in dropped)
        console.print(plain(f"{relation}, not chosen: {left_out}", "dim"))


def print_ending(record: Mapping[str, Any], console: Console) -> None:
    """Print the reply, and which stages did not run."""
    for name in record.get("skipped", ()):
        console.print(plain(f"stage {name} did not run: it is not for the label that was chosen", "dim"))
    console.print(Panel(plain(record["reply"]), title="Reply"))
    if record["reference"]:
        console.print(plain(f"A person replied: {record['reference']}", "dim"))


class StagePrinter:
    """Prints stages, one after the other.

    Args:
        console: Where to.

    Attributes:
        printed: The number of stages so far.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._prompts: dict[str, list[Any]] = {}  # of each stage; candidates share one
        self.printed = 0

    def print(self, stage: Mapping[str, Any]) -> None:
        """Print a stage, as a run's line has it."""
        name = stage["name"].partition(".")[0]
        prompts = self._prompts.setdefault(name, [])
        _print_stage(self._console, len(self._prompts), stage, known_prompt=stage["messages"] in prompts)
        prompts.append(stage["messages"])
        self.printed += 1


def print_prompt(stage: ShownStage) -> None:
    """Print the messages of one stage, as they would be sent, after what the flow's file says of the stage."""
    console = Console()
    counted = "tokens unknown: the model is hosted" if stage.tokens is None else f"{stage.tokens} tokens"
    console.rule(f"stage {stage.name}, {counted}")
    for line in _about(stage):
        console.print(plain(line, "dim"), soft_wrap=True)
    for message in stage.messages:
        console.print(plain(f"{message.role}: ", "bold") + plain(message.content), soft_wrap=True)


def _about(stage: ShownStage) -> Iterator[str]:
    for by, labels in stage.when.items():
        yield f"runs only if {by} is {' or '.join(labels)}"
    if stage.candidates > 1:
        chosen = "a judge chooses one, see below" if stage.chosen_by == "judge" else "the label that most give counts"
        yield f"{stage.candidates} candidates; {chosen}"
    if stage.sampling:
        yield f"sampling: {', '.join(f'{name} {_value(value)}' for name, value in stage.sampling.items())}"
    if stage.labels:
        yield f"the answer is one of: {', '.join(stage.labels)}; below, {stage.stands_for} stands for it"
    if stage.schema is not None:
        yield f"the answer is JSON of the schema {json.dumps(stage.schema, ensure_ascii=False)}"
    if stage.branch:
        yield f"a text for each {stage.branch_by}; the prompt below has that for {stage.branch_shown}:"
        for label, text in stage.branch.items():
            yield f"  {label}: {text}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_stage(console: Console, number: int, stage: Mapping[str, Any], *, known_prompt: bool) -> None:
    said = [plain(f"{message['role']}: ", "bold") + plain(message["content"]) for message in stage["messages"]]
    if known_prompt:
        said = [plain("(the prompt is that of the candidate above)", "dim")]
    name, _, kind = stage["name"].partition(".")
    title = f"Stage {number}: {name}{_KINDS.get(kind, f'.{kind}' if kind else '')}"
    cached = f", {stage['cached_tokens']} cached" if stage["cached_tokens"] else ""
    facts = (
        f"{known(stage['prompt_tokens'])} prompt tokens{cached}, {known(stage['completion_tokens'])} reply tokens"
        f"{of_which_thinking(thinking_tokens(stage))}, {stage['seconds']:.2f} s, {stage['finish_reason']}"
    )
    if stage["exemplars_dropped"]:
        facts += f", {stage['exemplars_dropped']} exemplars dropped"
    # Runs from before thinking was set apart have none.
    thought = [Text("thinking: ", "bold dim") + plain(stage["thinking"], "dim")] if stage.get("thinking") else []
    answer = [Text("-> ", "bold green") + plain(stage["text"])]
    read = stage.get("answer")
    if read is not None and read != stage["text"]:
        answer.append(Text("read as ", "bold green") + plain(_value(read)))
    notes = [plain(note, "yellow") for note in stage["notes"]]
    console.print(Panel(Group(*said, *thought, *answer, *notes), title=plain(title), subtitle=plain(facts)))


def plain(text: str, style: str = "") -> Text:
    """Return data as literal text: no rich markup, control characters escaped."""
    return Text(for_terminal(str(text)), style)
