"""Every regular expression of the package: found in its source, with the ways in which each is used."""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import REPOSITORY

PACKAGE = REPOSITORY / "localemp"
USES = ("search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn")
_FLAGS_AT = {"compile": 1, "split": 3, "sub": 4, "subn": 4}


@dataclass(frozen=True)
class Found:
    """A call of `re`.

    Attributes:
        where: File and line.
        place: File and function.
        expressions: What is compiled there; nothing where that depends on what the function is given.
        uses: Methods that are called with it.
    """

    where: str
    place: str
    expressions: tuple[re.Pattern[Any], ...]
    uses: tuple[str, ...]


def all_expressions() -> list[Found]:
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in _in_file(path)]


def _in_file(path: Path) -> Iterator[Found]:
    source, name = path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix()
    if re.search(r"^import re$", source, re.MULTILINE) is None:
        return
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for function, call, target in _calls(ast.parse(source), "", None):
        assert isinstance(call.func, ast.Attribute)
        kind = call.func.attr
        uses = _uses_of(target, path) if kind == "compile" else (kind,)
        yield Found(f"{name}:{call.lineno}", f"{name}:{function}", _compiled(call, kind, module, target), uses)


def _calls(node: ast.AST, function: str, target: str | None) -> Iterator[tuple[str, ast.Call, str | None]]:
    """Calls of `re`: the function around each, the call, and the name that its value gets."""
    for child in ast.iter_child_nodes(node):
        inside, named = function, target
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = child.name
        if isinstance(child, ast.Assign | ast.AnnAssign):
            to = child.targets[0] if isinstance(child, ast.Assign) else child.target
            named = to.id if isinstance(to, ast.Name) else to.attr if isinstance(to, ast.Attribute) else None
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
            of = child.func.value
            if isinstance(of, ast.Name) and of.id == "re" and child.func.attr in (*USES, "compile"):
                yield inside, child, named
        yield from _calls(child, inside, named)


def _uses_of(name: str | None, path: Path) -> tuple[str, ...]:
    """Methods that are called on a name, in its own module and in those that import it; all where none is found."""
    uses = set()
    for other in PACKAGE.rglob("*.py") if name else ():
        text = other.read_text("utf-8")
        if other == path or re.search(rf"import [^\n]*\b{name}\b", text):
            uses |= set(re.findall(rf"\b{name}\.({'|'.join(USES)})\b", text))
    return tuple(sorted(uses)) or USES


def _compiled(call: ast.Call, kind: str, module: str, target: str | None) -> tuple[re.Pattern[Any], ...]:
    at = _FLAGS_AT.get(kind, 2)
    named = [word.value for word in call.keywords if word.arg == "flags"]
    flags = next(iter([*named, *call.args[at : at + 1]]), ast.Constant(0))
    names = vars(importlib.import_module(module))
    try:
        pattern, with_flags = (
            eval(compile(ast.Expression(ast.fix_missing_locations(node)), module, "eval"), names)
            for node in (call.args[0], flags)
        )
    except NameError:  # it needs what a loop or an object gives it: the module may have kept the result
        return tuple(_kept(names, target))
    return (re.compile(pattern, with_flags),)


def _kept(names: dict[str, Any], target: str | None) -> Iterator[re.Pattern[Any]]:
    """Patterns in a module's tables and objects, or those of the objects that have a name."""
    waiting: list[tuple[str | None, Any]] = list(names.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, re.Pattern):
            if name == target or name is None:
                yield value
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += [(target if name == target else None, each) for each in value]
        elif isinstance(value, dict):
            waiting += [(None, each) for each in (*value, *value.values())]
        elif type(value).__module__.startswith("localemp") and hasattr(value, "__dict__"):
            waiting += vars(value).items()
