"""The import graph of localemp, read from its source: who needs whom, at module and at package level."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1] / "localemp"

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def module_graph() -> Graph:
    """Imports between modules, those inside functions and type checks included."""
    known = modules()
    return {name: set(_imported(ast.parse(path.read_text("utf-8")), known)) - {name} for name, path in known.items()}


def _imported(tree: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "localemp":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def package_graph() -> Graph:
    """Imports between what lies at the root: packages, and the modules beside them."""
    graph: Graph = {}
    for name, needed in module_graph().items():
        if (place := _place(name)) is not None:
            graph.setdefault(place, set()).update(
                other for each in needed if (other := _place(each)) not in (None, place) and other is not None
            )
    return graph


def _place(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that need one another, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(graph: Graph) -> list[list[str]]:
    """The nodes of a graph without circles, highest first: each stands just above the highest that it needs."""
    height: dict[str, int] = {}

    def of(node: str) -> int:
        if node not in height:
            height[node] = 1 + max((of(other) for other in graph.get(node, ())), default=-1)
        return height[node]

    for node in graph:
        of(node)
    return [sorted(node for node in height if height[node] == floor) for floor in range(max(height.values()), -1, -1)]


def needs_directly(graph: Graph, node: str) -> set[str]:
    """What a node needs, without what it also gets through others."""
    return {
        other
        for other in graph[node]
        if not any(other in _reached(graph, between) for between in graph[node] - {other})
    }


def _reached(graph: Graph, node: str) -> set[str]:
    found: set[str] = set()
    ahead = [node]
    while ahead:
        for other in graph.get(ahead.pop(), set()) - found:
            found.add(other)
            ahead.append(other)
    return found


def picture() -> str:
    """The package graph as docs/architecture.md draws it."""
    graph = package_graph()
    lines = []
    for floor in floors(graph):
        for node in floor:
            needed = ", ".join(sorted(needs_directly(graph, node)))
            lines.append(f"    {node:<12}-> {needed}" if needed else f"    {node}")
        lines.append("")
    return "\n".join(lines[:-1])


if __name__ == "__main__":
    print(picture())
