"""The `localemp` command: its groups, and how an error reaches a person."""

import contextlib
import io
import os
import sys
from types import TracebackType

import click

from localemp import errors
from localemp.cli.interrupts import INTERRUPTED
from localemp.cli.lazy import LazyGroup
from localemp.cli.messages import TRACEBACK_VARIABLE, listen, unexpected
from localemp.utils.interrupts import quiet_ending
from localemp.utils.text import for_terminal

# Command -> (module in localemp.cli, one line for --help)
COMMANDS = {
    "generate": ("generate", "Answer a data set, in a run that can be stopped and continued."),
    "respond": ("talk", "Answer one text."),
    "chat": ("talk", "Keep talking in the terminal."),
    "serve": ("serve", "Serve a model through an OpenAI API, with every strategy as a model name."),
    "prompts": ("prompts", "Show exactly what would be sent to a model."),
    "score": ("score", "Score replies as the paper does, of runs or of others' files."),
    "compare": ("compare", "Say by how much two runs differ, and how sure that is."),
    "report": ("report", "Tables, figures and a page from runs, beside the paper's figures."),
    "study": ("study", "Let people and models rate replies, and say what follows from it."),
    "bench": ("bench", "Measure what this machine delivers, and what each strategy costs on it."),
    "tune": ("tune", "Find the engine settings that are fastest for your prompts."),
    "runs": ("runs", "Look at runs, their replies and stages."),
    "knowledge": ("knowledge", "Infer what may lie behind what a person says, and keep it in a file."),
    "models": ("models", "List, show and fetch models."),
    "data": ("data", "Count data sets, and fetch EmpatheticDialogues."),
    "doctor": ("doctor", "Say what this machine has, and what is missing."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="localemp")
def cli() -> None:
    """Empathetic replies from open language models, by the methods of Qian, Zhang and Liu (2023).

    Start with `localemp doctor`, then `localemp respond "I lost my job today."`
    """


def main() -> None:
    """Run the command line; errors become one line, the next step, and an exit code."""
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        # What cannot be written or read in the terminal's encoding is no reason to stop.
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")  # type: ignore[union-attr]
    listen()
    sys.excepthook = _show_unless_interrupted
    try:
        code = cli.main(standalone_mode=False) or 0
        if code == INTERRUPTED:
            quiet_ending()
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except errors.LocalempError as error:
        _say(error.message, error.hint)
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
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def _say(message: str, hint: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {for_terminal(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', bold=True)} {for_terminal(hint)}", err=True)


if __name__ == "__main__":
    main()
