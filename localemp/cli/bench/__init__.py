"""`localemp bench`: one thin file a command."""

import click

from localemp.cli.lazy import LazyGroup

COMMANDS = {
    "engine": ("bench.engine", "Replies and tokens a second, by batch size, against the roofline."),
    "strategies": ("bench.strategies", "The cost of each strategy, and its time by component."),
    "serve": ("bench.serve", "Latency and throughput of an OpenAI-compatible server under load."),
    "retrieval": ("bench.components", "The sentence encoder and the search."),
    "comet": ("bench.components", "COMET."),
    "score": ("bench.components", "The metrics."),
    "report": ("bench.report", "A page with plots and tables from results."),
    "compare": ("bench.report", "Changes between two results beyond the spread."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def bench() -> None:
    """Measure the speed of this machine, and the cost of each strategy on it.

    Every command prints tables and writes a result (JSON) that `bench report` and `bench compare` read.
    """
