"""Takes the files of a strategy to another machine, by content: a cluster's nodes need not have them."""

from collections.abc import Mapping
from pathlib import Path

from localemp.strategies.registry import is_flow_file, parse_strategy
from localemp.utils.paths import at_home

Copies = Mapping[str, Mapping[str, bytes]]
"""The contents of files by their names, for each part that is a file."""


def copies_of(strategy: str) -> Copies:
    """Return the files of a strategy: each flow, and beside it its forms for given facts.

    Raises:
        LocalempError: As `parse_strategy` does.
        OSError: A file cannot be read.
    """
    copies = {}
    for name in parse_strategy(strategy):
        if is_flow_file(name):
            path = at_home(name)
            forms = path.parent.glob(f"{path.stem}.given-*.toml")
            copies[name] = {each.name: each.read_bytes() for each in (path, *forms)}
    return copies


def with_copies(strategy: str, copies: Copies, folder: Path) -> str:
    """Write the files into folders of their own, and return the strategy with the paths of the copies.

    Raises:
        OSError: They cannot be written.
    """
    names = []
    for number, name in enumerate(strategy.split("+")):
        if name not in copies:
            names.append(name)
            continue
        own = folder / str(number)
        own.mkdir(parents=True)
        for file, content in copies[name].items():
            (own / file).write_bytes(content)
        names.append(str(own / at_home(name).name))
    return "+".join(names)
