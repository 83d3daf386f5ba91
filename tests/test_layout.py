"""The layout of the package is the one that docs/architecture.md draws, and imports go one way."""

import re
from pathlib import Path

from import_graph import ROOT, circles, module_graph, package_graph, picture
from repository import REPOSITORY


def test_the_root_holds_the_nouns_and_the_door():
    assert {path.stem for path in ROOT.glob("*.py")} == {"__init__", "__main__", "dialogue", "errors", "sampling"}


def test_no_module_needs_itself_through_others():
    assert circles(module_graph()) == []


def test_no_package_needs_itself_through_others():
    assert circles(package_graph()) == []


def test_no_room_needs_itself_through_others():
    """A room is a package inside a package (`studies/stats/`), or a module that stands in none."""
    graph: dict[str, set[str]] = {}
    for name, needed in module_graph().items():
        graph.setdefault(_room(name), set()).update(_room(each) for each in needed)
    assert circles({room: needed - {room} for room, needed in graph.items()}) == []


def test_the_picture_is_true():
    drawn = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    assert picture() in drawn, f"draw this in docs/architecture.md:\n\n{picture()}"


def _room(module: str) -> str:
    return ".".join(module.split(".")[:3]) if module.count(".") > 2 else module


def test_every_file_that_the_page_names_is_there():
    named = set(re.findall(r"`([\w/]+\.(?:py|toml))`", (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")))
    there = [
        path.as_posix()
        for folder in ("localemp", "prompts", "tests", "benchmarks")
        for path in Path(REPOSITORY / folder).rglob("*.*")
    ]
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in there)] == [
        "models/NAME.toml"
    ]
