"""The `localemp` command: its groups, and how an error reaches a person."""

import importlib
import sys

import click

from localemp import errors

# Command -> (module, one line for --help); a module is imported when its command is asked for.
COMMANDS = {
    "generate": ("generate", "Answer a data set, in a run that can be stopped and continued."),
    "respond": ("talk", "Answer one text."),
    "chat": ("talk", "Keep talking in the terminal."),
    "serve": ("serve", "Serve a model through an OpenAI API, with every strategy as a model name."),
    "prompts": ("prompts", "Show exactly what would be sent to a model."),
    "score": ("score", "Score replies as the paper does, of runs or of others' files."),
    "compare": ("compare", "Say by how much two runs differ, and how sure that is."),
    "report": ("report", "Tables, figures and a page from runs, beside the paper's figures."),
    "runs": ("runs", "Look at runs, their replies and stages."),
    "knowledge": ("knowledge", "Infer what may lie behind what a person says, and keep it in a file."),
    "models": ("models", "List, show and fetch models."),
    "data": ("data", "Count data sets, and fetch EmpatheticDialogues."),
    "doctor": ("doctor", "Say what this machine has, and what is missing."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; an unknown one is an error that lists the known ones."""
        if cmd_name not in COMMANDS:
            raise errors.UnknownNameError("command", cmd_name, COMMANDS)
        module = importlib.import_module(f"localemp.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="localemp")
def cli() -> None:
    """Empathetic replies from open language models, by the methods of Qian, Zhang and Liu (2023).

    Start with `localemp doctor`, then `localemp respond "I lost my job today."`
    """


def main() -> None:
    """Run the command line; errors become one line, the next step, and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except errors.LocalempError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
        if error.hint:
            click.echo(f"{click.style('next:', bold=True)} {error.hint}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
