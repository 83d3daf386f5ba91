"""The `localemp` command: its subcommands, and the display of errors."""

import contextlib
import io
import os
import sys
from types import TracebackType
from typing import Any

import click

from localemp import errors
from localemp.cli.interrupts import INTERRUPTED
from localemp.cli.lazy import LazyGroup
from localemp.cli.messages import TRACEBACK_VARIABLE, listen, unexpected
from localemp.utils.interrupts import quiet_ending
from localemp.utils.text import for_terminal

# Command -> (module in localemp.cli, one line for --help)
COMMANDS = {
    "generate": ("generate", "Answer a data set, in a run that can be interrupted and resumed."),
    "experiment": ("experiment", "Answer all rows of a plan, and score, compare and report them."),
    "respond": ("respond", "Answer one text."),
    "chat": ("chat", "Chat in the terminal."),
    "serve": ("serve", "Serve a model with an OpenAI-compatible API; every strategy is a model name."),
    "prompts": ("prompts", "Show, export and check prompts, without calling a model."),
    "score": ("score", "Score replies by automatic metrics, of runs or other systems' files."),
    "compare": ("compare", "Compare runs, with significance tests."),
    "report": ("report", "Make tables, figures and a page from runs, next to the paper's numbers."),
    "study": ("study", "Run studies in which people and models rate replies."),
    "bench": ("bench", "Measure the speed of this machine, and the cost of each strategy."),
    "tune": ("tune", "Find the fastest engine settings for your prompts."),
    "runs": ("runs", "List runs, show and export their replies, and verify them."),
    "batches": ("batches", "Show or cancel what a service's Batch API does for a run."),
    "knowledge": ("knowledge", "Infer causes and effects with COMET, for a text or a whole data set."),
    "retrieval": ("retrieval", "Embed the training dialogues of `similar` ahead of time."),
    "models": ("models", "List, show and fetch models, and fit the one that EPITOME needs."),
    "data": ("data", "Count dialogues, and fetch EmpatheticDialogues."),
    "config": ("config", "Set defaults of options, such as the model."),
    "completion": ("completion", "Print what makes a shell complete commands and names."),
    "doctor": ("doctor", "Check this machine, and what is missing."),
}


# Help is as wide as the terminal.
_LONGEST = 4_000  # characters of a message
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 10_000}


class RootGroup(LazyGroup):
    """The command itself; where input was wrong, it says which defaults of the user's counted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except errors.LocalempError as error:
            from localemp.cli.defaults import note_of

            if error.exit_code == 2:
                error.hint = "; ".join(filter(None, (error.hint, note_of(ctx))))
            raise


@click.group(cls=RootGroup, commands_of=COMMANDS, context_settings=_CONTEXT)
@click.version_option(package_name="localemp", prog_name="localemp")
def cli() -> None:
    """Empathetic replies from open language models, by the methods of Qian, Zhang and Liu (2023).

    Start with `localemp doctor`, then `localemp respond "I lost my job today."`
    """


def main() -> None:
    """Run the command line; an error becomes one line, a hint, and an exit code."""
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        # Text that does not fit the terminal's encoding should not stop a command.
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")  # type: ignore[union-attr]
    listen()
    sys.excepthook = _show_unless_interrupted
    sys.unraisablehook = _show_unraisable_unless_interrupted
    try:
        code = cli.main(standalone_mode=False) or 0
        quiet_ending()
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except errors.LocalempError as error:
        for each in (error, *error.others):
            _say(each.message, each.hint)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        quiet_ending()
        click.echo("stopped", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        _say(*unexpected(error))
        sys.exit(1)


def _show_unless_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:  # Ctrl-C that came between two lines of `main`
    if issubclass(kind, KeyboardInterrupt):
        quiet_ending()
    else:
        sys.__excepthook__(kind, error, trace)


def _show_unraisable_unless_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C while objects are cleaned up, or while this runs
        if unraisable.exc_type is None or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)


def _say(message: str, hint: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_short(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', bold=True)} {_short(hint)}", err=True)


def _short(text: str) -> str:
    """Return a text for the terminal; a value of megabytes that it names would push everything else off the screen."""
    return for_terminal(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)")


if __name__ == "__main__":
    main()
