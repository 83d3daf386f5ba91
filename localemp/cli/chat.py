"""`localemp respond` and `localemp chat`: single replies, and a chat in the terminal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.options import config_of, strategy_options, talk_options
from localemp.cli.registered import StrategyCommand
from localemp.utils.text import for_terminal

if TYPE_CHECKING:
    from localemp.dialogue import Dialogue
    from localemp.pipeline.responder import Responder
    from localemp.strategies.base import Response


@click.command(cls=StrategyCommand)
@click.argument("turns", nargs=-1, required=True, metavar="TEXT...")
@talk_options
@strategy_options
@click.option("--emotion", help="The speaker's emotion, for --given emotion and for flows that show it.")
@click.option("--situation", help="The speaker's situation, for --given situation and for flows that show it.")
@click.option("--stages", is_flag=True, help="Show exemplars, inferences, prompts and all stages.")
def respond(turns: tuple[str, ...], emotion: str | None, situation: str | None, stages: bool, **options: Any) -> None:
    r"""Answer TEXT once. Several texts are the turns of a dialogue: speaker, listener, speaker.

    Control characters in a reply are escaped (\x1b), so that a model cannot control the terminal.
    """
    from localemp.cli.replies import print_record
    from localemp.pipeline.responder import as_dialogue
    from localemp.runs.run import response_record
    from localemp.strategies.base import Response

    dialogue = replace(as_dialogue(turns), emotion=emotion, situation=situation)

    async def answer() -> Response:
        async with _open(options, dialogue) as responder:
            return await responder(dialogue)

    response = asyncio.run(answer())
    if stages:
        print_record(response_record(response))
    else:
        click.echo(for_terminal(response.reply))
    if not response.reply:
        click.echo("the reply is empty; use --stages to see the prompt", err=True)
    _say_truncated(response, options)


@click.command(cls=StrategyCommand)
@talk_options
@strategy_options
@click.option("--stages", is_flag=True, help="Show exemplars, inferences, prompts and all stages of every reply.")
def chat(stages: bool, **options: Any) -> None:
    """Chat in the terminal; you are the speaker. An empty line or Ctrl-D ends the chat; /new starts a new dialogue."""
    asyncio.run(_chat(stages, options))


async def _chat(stages: bool, options: dict[str, Any]) -> None:
    from localemp.cli.replies import print_record
    from localemp.dialogue import Dialogue
    from localemp.errors import EngineError, FatalEngineError
    from localemp.runs.run import response_record

    turns: list[str] = []
    async with _open(options, Dialogue("talk", ("Hello.",))) as responder:
        click.echo("You are the speaker. An empty line ends the chat; /new starts a new dialogue.")
        while True:
            if not (said := _typed()):
                return
            if said == "/new":
                turns.clear()
                continue
            try:
                response = await responder([*turns, said])
            except FatalEngineError:
                raise
            except EngineError as error:
                told = f"{error.message}; try again, or start a new dialogue with /new"
                click.echo(for_terminal(told), err=True)
                continue
            if not response.reply:
                click.echo("the reply is empty; try other words", err=True)
                continue
            turns += [said, response.said]
            if stages:
                print_record(response_record(response))
            click.echo(f"listener: {for_terminal(response.reply)}")
            _say_truncated(response, options)


def _say_truncated(response: "Response", options: dict[str, Any]) -> None:
    """Say that a reply stops in the middle of a sentence because it was truncated, and what to do."""
    from localemp.strategies.trimming import ends_whole

    if response.truncated and not ends_whole(response.reply):
        trim = "" if options["trim_to_sentence"] else ", or cut it at its last whole sentence: --trim-to-sentence"
        click.echo(f"the reply was truncated: raise --max-tokens{trim}", err=True)


def _typed() -> str:
    """Read a line; empty if the user ends the chat by an empty line, Ctrl-D or Ctrl-C."""
    import signal

    # asyncio's own handler would wait for the line to be ended.
    asyncios = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("you: ").strip()
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return ""
    finally:
        signal.signal(signal.SIGINT, asyncios)


@asynccontextmanager
async def _open(options: dict[str, Any], dialogue: "Dialogue") -> "AsyncIterator[Responder]":
    """Yield a started responder; shows a clock while it starts.

    Raises:
        OptionError: The flow shows what the dialogue lacks.
    """
    from localemp.cli.display import Display
    from localemp.pipeline.responder import Responder

    config = config_of(options)
    with Display() as display:
        responder = Responder(config, on_progress=display.on_progress)
        responder.pipeline.note_end()
        responder.prepare().flow.check(dialogue)
        with display.clock(f"Starting {responder.pipeline.model_name}"):
            await responder.start()
        try:
            yield responder
        finally:
            await responder.close()
