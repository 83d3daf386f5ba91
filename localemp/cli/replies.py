"""Displays replies and their stages in the terminal."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from localemp.runs.run import thinking_tokens
from localemp.strategies.base import Stage
from localemp.utils.formatting import known, of_which_thinking
from localemp.utils.text import for_terminal

# Characters of what a speaker said that a table shows; `runs show --index` shows all.
LONGEST_SHOWN = 600


def print_replies(records: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print a table: dialogue, the speaker's last turn, the reply."""
    if not records:
        return
    table = Table(title=plain(title), show_lines=True)
    table.add_column("Dialogue", max_width=24, overflow="fold")
    table.add_column("Speaker", ratio=1)
    table.add_column("Reply", ratio=1)
    for record in records:
        said = shorten(next(reversed(record["turns"]), ""), LONGEST_SHOWN, placeholder=" ...")
        table.add_row(plain(record["id"]), plain(said), plain(record["reply"]))
    Console().print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """Print one reply with all its stages."""
    console = Console()
    if "error" in record:
        console.print(plain(record["id"], "bold"), plain(record["error"]["type"], "red"))
        console.print(plain(record["error"]["message"]))
        if hint := record["error"].get("hint"):
            console.print(plain(f"hint: {hint}", "dim"))
        return
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
    for number, stage in enumerate(record["stages"], 1):
        _print_stage(console, number, stage)
    console.print(Panel(plain(record["reply"]), title="Reply"))
    if record["reference"]:
        console.print(plain(f"A person replied: {record['reference']}", "dim"))


def print_prompt(stage: Stage, tokens: int | None) -> None:
    """Print the messages of one stage, as they would be sent."""
    console = Console()
    counted = "tokens unknown: the model is hosted" if tokens is None else f"{tokens} tokens"
    console.rule(f"stage {stage.name}, {counted}")
    for message in stage.messages:
        console.print(plain(f"{message.role}: ", "bold") + plain(message.content), soft_wrap=True)


def _print_stage(console: Console, number: int, stage: Mapping[str, Any]) -> None:
    said = [plain(f"{message['role']}: ", "bold") + plain(message["content"]) for message in stage["messages"]]
    cached = f", {stage['cached_tokens']} cached" if stage["cached_tokens"] else ""
    facts = (
        f"{known(stage['prompt_tokens'])} prompt tokens{cached}, {known(stage['completion_tokens'])} reply tokens"
        f"{of_which_thinking(thinking_tokens(stage))}, {stage['seconds']:.2f} s, {stage['finish_reason']}"
    )
    if stage["exemplars_dropped"]:
        facts += f", {stage['exemplars_dropped']} exemplars dropped"
    # Runs from before thinking was set apart have none.
    thought = [Text("thinking: ", "bold dim") + plain(stage["thinking"], "dim")] if stage.get("thinking") else []
    answer = Text("-> ", "bold green") + plain(stage["text"])
    console.print(
        Panel(Group(*said, *thought, answer, *(plain(note, "yellow") for note in stage["notes"])),
              title=f"Stage {number}: {stage['name']}", subtitle=plain(facts))
    )  # fmt: skip


def plain(text: str, style: str = "") -> Text:
    """Return data as literal text: no rich markup, control characters escaped."""
    return Text(for_terminal(str(text)), style)
