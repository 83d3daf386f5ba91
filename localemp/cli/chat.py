"""`localemp chat`: a chat in the terminal."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.options import strategy_options, talk_options
from localemp.cli.registered import StrategyCommand
from localemp.utils.text import for_terminal, one_line

if TYPE_CHECKING:
    from localemp.commands.respond import AnyResponder
    from localemp.strategies.base import Response

COMMANDS: Mapping[str, str] = {
    "/help": "this list",
    "/new": "begin a new dialogue (also /reset)",
    "/undo": "take back your last text and its reply",
    "/strategy": "NAME: answer by another strategy; alone, which one answers",
    "/trace": "show the stages behind the last reply",
    "/quit": "end the chat (also /exit, an empty line, or Ctrl-D)",
}
"""What can be typed instead of a text, and what it does."""

_ALSO = {"/reset": "/new", "/clear": "/new", "/exit": "/quit", "/bye": "/quit", "/q": "/quit", "/?": "/help"}
_OPENING = "You are the speaker. /help lists commands; an empty line ends the chat."


@click.command(cls=StrategyCommand, excludes={"server": ("base_url", "script")})
@talk_options
@strategy_options
@click.option("--stages", is_flag=True, help="Show exemplars, inferences, prompts and all stages of every reply.")
def chat(server: str, stages: bool, **options: Any) -> None:
    """Chat in the terminal; you are the speaker. An empty line or Ctrl-D ends the chat; /help lists commands.

    A running `localemp serve` is used if it would give the same replies (--server). A text that begins with / is sent
    with //.
    """
    asyncio.run(_chat(server, stages, options))


async def _chat(server: str, stages: bool, options: dict[str, Any]) -> None:
    from localemp.cli.talking import open_responder
    from localemp.dialogue import Dialogue

    async with open_responder(options, server, Dialogue("talk", ("Hello.",))) as responder:
        click.echo(_OPENING)
        talk = Talk(responder, stages)
        while said := _typed():
            if said.startswith("/") and not said.startswith("//"):
                if not await talk.command(said):
                    return
            else:
                await talk.say(said.removeprefix("/") if said.startswith("//") else said)


class Talk:
    """A chat, and what is known of its last reply.

    Args:
        responder: What answers.
        stages: Whether all stages of every reply are shown.
    """

    def __init__(self, responder: "AnyResponder", stages: bool) -> None:
        self._responder, self._stages = responder, stages
        self._turns: list[str] = []
        self._last: Response | None = None

    async def command(self, typed: str) -> bool:
        """Do what a command says; return whether the chat goes on."""
        name, _, rest = typed.partition(" ")
        name = _ALSO.get(name.lower(), name.lower())
        if name == "/quit":
            return False
        if name == "/strategy":
            await self._use(rest.strip())
        elif name in (does := {"/help": self._help, "/new": self._new, "/undo": self._undo, "/trace": self._trace}):
            does[name]()
        else:
            _unknown(name)
        return True

    async def say(self, said: str) -> None:
        """Send a text, and show the reply."""
        from localemp.cli.talking import answer_aloud, answer_with_stages, say_truncated
        from localemp.errors import EngineError, FatalEngineError
        from localemp.pipeline.responder import as_dialogue

        dialogue = as_dialogue([*self._turns, said])
        try:
            if self._stages:
                response = await answer_with_stages(self._responder, dialogue)
                click.echo(f"listener: {for_terminal(response.reply)}")
            else:
                response = await answer_aloud(self._responder, dialogue, "listener: ")
        except FatalEngineError:
            raise
        except EngineError as error:
            told = f"{error.message}; try again, or start a new dialogue with /new"
            click.echo(for_terminal(told), err=True)
            return
        if not response.reply:
            click.echo("the reply is empty; try other words", err=True)
            return
        self._last = response
        # The model's thinking is not part of the dialogue.
        self._turns += [said, response.said]
        say_truncated(response, trims=self._responder.pipeline.config.trim_to_sentence)

    async def _use(self, strategy: str) -> None:
        from localemp.dialogue import Dialogue
        from localemp.errors import LocalempError
        from localemp.serving.matching import flow_of

        pipeline = self._responder.pipeline
        if strategy:
            try:
                flow_of(pipeline.vary(strategy)).check(Dialogue("talk", ("Hello.",)))
                await self._responder.use(strategy)
            except LocalempError as error:
                click.echo(for_terminal(error.with_hint), err=True)
                return
        click.echo(for_terminal(f"strategy: {self._responder.pipeline.config.strategy}"))

    def _help(self) -> None:
        for name, about in COMMANDS.items():
            click.echo(f"  {name:<11}{about}")
        click.echo("  //...      send a text that begins with a slash")

    def _new(self) -> None:
        self._turns.clear()
        self._last = None
        click.echo("a new dialogue")

    def _undo(self) -> None:
        if not self._turns:
            click.echo("there is nothing to take back")
            return
        click.echo(for_terminal(f"taken back: {one_line(self._turns[-2], 60)}"))
        del self._turns[-2:]

    def _trace(self) -> None:
        from localemp.cli.replies import print_record
        from localemp.runs.run import response_record

        if self._last is None:
            click.echo("there is no reply yet")
        else:
            print_record(response_record(self._last))


def _unknown(name: str) -> None:
    from localemp.errors import nearest

    near = nearest(name, COMMANDS)
    guess = f"did you mean {near}?" if near else "/help lists them;"
    click.echo(
        for_terminal(f"unknown command {one_line(name, 40)}: {guess} // sends a text that begins with /"), err=True
    )


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
