"""`localemp bench`: one thin file a command."""

import click

from localemp.cli.lazy import LazyGroup

COMMANDS = {
    "engine": ("bench.engine", "Replies and tokens a second, by batch size, and how near that is to the hardware."),
    "strategies": ("bench.strategies", "What each strategy costs, and where its time goes."),
    "serve": ("bench.serve", "What users wait at an OpenAI-compatible server, by load."),
    "retrieval": ("bench.components", "The sentence encoder and the search."),
    "comet": ("bench.components", "COMET."),
    "score": ("bench.components", "The metrics."),
    "report": ("bench.report", "A page with plots and tables from results."),
    "compare": ("bench.report", "What differs between two results beyond the spread."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def bench() -> None:
    """Measure what this machine delivers, and what each strategy costs on it.

    Every command prints tables and writes a result (JSON) that `bench report` and `bench compare` read.
    """
