"""`localemp respond`: a single reply."""

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from localemp.cli.options import strategy_options, talk_options
from localemp.cli.registered import StrategyCommand

if TYPE_CHECKING:
    from localemp.strategies.base import Response

_STDIN = "-"
_LARGEST = 2**20  # bytes of standard input, as many as a server takes


@click.command(cls=StrategyCommand, excludes={"stages": ("as_json",), "server": ("base_url", "script")})
@click.argument("turns", nargs=-1, required=True, metavar="TEXT...")
@talk_options
@strategy_options
@click.option("--emotion", help="The speaker's emotion, for --given emotion and for flows that show it.")
@click.option("--situation", help="The speaker's situation, for --given situation and for flows that show it.")
@click.option("--stages", is_flag=True, help="Show exemplars, inferences, prompts and all stages.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: reply, stages, tokens, settings.")
def respond(
    turns: tuple[str, ...],
    server: str,
    emotion: str | None,
    situation: str | None,
    stages: bool,
    as_json: bool,
    **options: Any,
) -> None:
    r"""Answer TEXT once. Several texts are the turns of a dialogue: speaker, listener, speaker.

    - stands for standard input. A running `localemp serve` is used if it would give the same reply (--server). Control
    characters in a reply are escaped (\x1b), so that a model cannot control the terminal.
    """
    from localemp.cli.talking import answer_aloud, answer_with_stages, open_responder, say_truncated
    from localemp.commands.respond import reply_record
    from localemp.pipeline.responder import as_dialogue
    from localemp.utils.text import json_text

    dialogue = replace(as_dialogue(_with_stdin(turns)), emotion=emotion, situation=situation)

    async def answer() -> "Response":
        async with open_responder(options, server, dialogue) as responder:
            if as_json:
                response = await responder(dialogue)
                click.echo(json_text(reply_record(response, responder), indent=2))
            else:
                response = await (answer_with_stages if stages else answer_aloud)(responder, dialogue)
            return response

    response = asyncio.run(answer())
    if not response.reply:
        click.echo("the reply is empty; use --stages to see the prompt", err=True)
    say_truncated(response, trims=options["trim_to_sentence"])


def _with_stdin(turns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the turns, "-" replaced by standard input.

    Raises:
        OptionError: It is empty, too long or not UTF-8, or is to be read twice.
    """
    from localemp.errors import OptionError

    if _STDIN not in turns:
        return turns
    if turns.count(_STDIN) > 1:
        raise OptionError("- is given twice, and standard input can be read once", "give the other turns as texts")
    if sys.stdin.isatty():
        click.echo("reading standard input; Ctrl-D ends it", err=True)
    raw = sys.stdin.buffer.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise OptionError(f"standard input has more than {_LARGEST // 2**20} MiB", "give a shorter text")
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise OptionError(f"standard input, line {line}: not valid UTF-8", "iconv -t UTF-8 converts it") from error
    if not text:
        raise OptionError("standard input is empty", "pipe a text into it: echo ... | localemp respond -")
    return tuple(text if turn == _STDIN else turn for turn in turns)
