"""What `respond` and `chat` share: what answers, and how a reply is shown while it is written."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.command import was_typed
from localemp.cli.options import config_of
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from localemp.commands.respond import AnyResponder
    from localemp.dialogue import Dialogue
    from localemp.strategies.base import Draft, Response

_LONG = 20.0  # seconds of a start after which it is said how to keep a model loaded


@asynccontextmanager
async def open_responder(options: dict[str, Any], server: str, dialogue: "Dialogue") -> "AsyncIterator[AnyResponder]":
    """Yield what answers, ready; shows a clock while a model starts.

    Raises:
        OptionError: The flow shows what the dialogue lacks.
    """
    from localemp.cli.display import Display
    from localemp.commands.respond import choose_responder, model_of
    from localemp.pipeline.responder import Responder
    from localemp.serving.matching import flow_of

    if (options["script"] or options["base_url"]) and not was_typed(click.get_current_context(), "server"):
        server = "auto"  # a default of the user's yields to what is typed
    config = config_of(options)
    with Display() as display:
        responder = choose_responder(config, server, display.on_progress)
        flow_of(responder.pipeline).check(dialogue)
        began = time.monotonic()
        if isinstance(responder, Responder):
            responder.pipeline.note_end()
            responder.prepare()
            with display.clock(f"Starting {responder.pipeline.model_name}"):
                await responder.start()
        took = time.monotonic() - began
        try:
            yield responder
        finally:
            await responder.close()
        if took > _LONG and server != "none" and responder.pipeline.runs_here:
            command = f"localemp serve --model {model_of(responder.pipeline)}"
            display.say(f"hint: starting took {took:.0f} s; while `{command}` runs, respond and chat use it")


class ReplyPrinter:
    """Shows a reply while it is written.

    Args:
        before: What is shown in front of it.
    """

    def __init__(self, before: str = "") -> None:
        self._before, self._told = before, ""

    def tell(self, text: str) -> None:
        """Show a piece."""
        if not self._told:
            click.echo(self._before, nl=False)
        self._told += text
        click.echo(for_terminal(text), nl=False)

    def end(self, reply: str) -> None:
        """Show what is missing of the reply; all of it, if something else was shown."""
        if not reply.startswith(self._told):
            self.stop()
        if not self._told:
            click.echo(self._before, nl=False)
        click.echo(for_terminal(reply[len(self._told) :]))

    def stop(self) -> None:
        """End the line: the reply was broken off."""
        if self._told:
            click.echo()
        self._told = ""


async def answer_with_stages(responder: "AnyResponder", dialogue: "Dialogue") -> "Response":
    """Answer, and show every stage as it comes."""
    from rich.console import Console

    from localemp.cli.replies import StagePrinter, print_ending, print_opening
    from localemp.runs.run import draft_record, response_record, stage_record

    console = Console()
    stages = StagePrinter(console)

    def opening(draft: "Draft") -> None:
        print_opening(draft_record(draft), console)

    response = await responder(dialogue, on_draft=opening, on_stage=lambda stage: stages.print(stage_record(stage)))
    for stage in response.stages[stages.printed :]:
        stages.print(stage_record(stage))
    print_ending(response_record(response), console)
    return response


async def answer_aloud(responder: "AnyResponder", dialogue: "Dialogue", before: str = "") -> "Response":
    """Answer, and show the reply while it is written."""
    printer = ReplyPrinter(before)
    try:
        response = await responder(dialogue, on_text=printer.tell)
    except BaseException:
        printer.stop()
        raise
    if response.reply:
        printer.end(response.reply)
    else:
        printer.stop()
    return response


def say_truncated(response: "Response", *, trims: bool) -> None:
    """Say that a reply stops in the middle of a sentence because it was truncated, and what to do."""
    from localemp.strategies.trimming import ends_whole

    if response.truncated and not ends_whole(response.reply):
        trim = "" if trims else ", or cut it at its last whole sentence: --trim-to-sentence"
        click.echo(f"the reply was truncated: raise --max-tokens{trim}", err=True)
