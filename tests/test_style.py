"""Rules of style that no linter knows: nothing in the package is written cleverly where it can be written plainly."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import localemp

PACKAGE = Path(localemp.__file__).parent


def is_bare(node: ast.AST) -> bool:
    """An expression of no effect, used for the error that it may raise."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Constant):
        return not isinstance(node.value.value, str) and node.value.value is not ...
    return not isinstance(node.value, ast.Call | ast.Await | ast.Yield | ast.YieldFrom)


def is_chained(node: ast.AST) -> bool:
    """A conditional expression that is a part of another."""
    return isinstance(node, ast.IfExp) and any(isinstance(part, ast.IfExp) for part in ast.iter_child_nodes(node))


def is_truth(node: ast.AST) -> bool:
    """An expression that is true or false."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("all", "any", "bool", "isinstance")
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def is_times_truth(node: ast.AST) -> bool:
    """Something that is multiplied by true or false."""
    return (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and (is_truth(node.left) or is_truth(node.right))
    )


def is_undecided_raise(node: ast.AST) -> bool:
    """A `raise` of one thing or another."""
    return isinstance(node, ast.Raise) and isinstance(node.exc, ast.BoolOp | ast.IfExp)


def is_patched_message(node: ast.AST) -> bool:
    """An error's text that is changed afterwards."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("replace", "removeprefix", "removesuffix")
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr in ("message", "hint")
    )


def found(rule: Callable[[ast.AST], bool], source: str) -> Iterator[int]:
    return (getattr(node, "lineno", 0) for node in ast.walk(ast.parse(source)) if rule(node))


@pytest.mark.parametrize(
    ("rule", "clever", "plain"),
    [
        (is_bare, "gpus.memory(), gpus.load()", "gpus.memory()"),
        (is_chained, "x = 1 if a else 2 if b else 3", "x = [1 if a else 2 for b in (c if d else e)]"),
        (is_times_truth, "x = [note] * (note != '')", "x = [0] * len(y)"),
        (is_undecided_raise, "raise told(error) or error", "raise told(error)"),
        (is_patched_message, "error.hint.replace('a', 'b')", "text.replace('a', 'b')"),
    ],
)
def test_nothing_is_written_cleverly(rule, clever, plain):
    assert list(found(rule, clever))
    assert not list(found(rule, plain))
    places = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in found(rule, path.read_text("utf-8"))
    ]
    assert not places
