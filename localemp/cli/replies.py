"""How replies and their stages are shown in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from localemp.strategies.base import Stage


def print_replies(records: Sequence[Mapping[str, Any]], title: str) -> None:
    """A table: dialogue, what the speaker said last, the reply."""
    if not records:
        return
    table = Table(title=title, show_lines=True)
    table.add_column("Dialogue", no_wrap=True)
    table.add_column("Speaker", ratio=1)
    table.add_column("Reply", ratio=1)
    for record in records:
        table.add_row(record["id"], Text(record["turns"][-1]), Text(record["reply"]))
    Console().print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """One reply with everything behind it."""
    console = Console()
    if "error" in record:
        console.print(f"[bold]{record['id']}[/bold]: [red]{record['error']['type']}[/red]", highlight=False)
        console.print(Text(record["error"]["message"]))
        return
    speakers = ("Speaker", "Listener")
    turns = [Text(f"{speakers[i % 2]}: {turn}") for i, turn in enumerate(record["turns"])]
    known = ", ".join(f"{name}: {record[name]}" for name in ("emotion", "situation") if record[name])
    console.print(Panel(Group(*turns, *([Text(known, style="dim")] if known else [])), title=str(record["id"])))
    for shown in record["exemplars"]:
        score = "" if shown["score"] is None else f"  cosine {shown['score']:.4f}"
        console.print(Text(f"exemplar {shown['id']}{score}", style="dim"))
    for relation, inferences in (record["inferences"] or {}).items():
        console.print(Text(f"{relation}: {', '.join(inferences) or '(none)'}", style="dim"))
    for number, stage in enumerate(record["stages"], 1):
        _print_stage(console, number, stage)
    console.print(Panel(Text(record["reply"]), title="Reply"))
    if record["reference"]:
        console.print(Text(f"A person replied: {record['reference']}", style="dim"))


def print_prompt(stage: Stage, tokens: int | None) -> None:
    """The messages of one stage, as they would be sent."""
    console = Console()
    counted = "tokens unknown: the model is hosted" if tokens is None else f"{tokens} tokens"
    console.rule(f"stage {stage.name}, {len(stage.messages)} messages, {counted}")
    for message in stage.messages:
        console.print(Text.assemble((f"{message.role}: ", "bold"), message.content), soft_wrap=True)


def _print_stage(console: Console, number: int, stage: Mapping[str, Any]) -> None:
    said = [Text.assemble((f"{message['role']}: ", "bold"), message["content"]) for message in stage["messages"]]
    cached = f", {stage['cached_tokens']} cached" if stage["cached_tokens"] else ""
    facts = (
        f"{stage['prompt_tokens']} prompt tokens{cached}, {stage['completion_tokens']} reply tokens, "
        f"{stage['seconds']:.2f} s, {stage['finish_reason']}"
    )
    if stage["exemplars_dropped"]:
        facts += f", {stage['exemplars_dropped']} exemplars dropped"
    answer = Text.assemble(("-> ", "bold green"), stage["text"])
    console.print(
        Panel(Group(*said, answer, *(Text(note, style="yellow") for note in stage["notes"])),
              title=f"Stage {number}: {stage['name']}", subtitle=facts)
    )  # fmt: skip
