"""The rules that tests keep."""

import ast
import re

from repository import REPOSITORY

FILES = sorted((REPOSITORY / "tests").rglob("*.py"))


def test_names_of_tests_are_short():
    functions = [
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [name for name in functions if len(name) >= 80] == []


def test_every_file_of_tests_has_a_name_of_its_own():
    """Otherwise pytest refuses to collect the second one."""
    names = [path.name for path in FILES if path.name.startswith("test_")]
    assert [name for name in names if names.count(name) > 1] == []


def test_every_wait_for_a_process_or_thread_has_patience():
    """A deadline in plain seconds fails on a busy machine."""
    plain = re.compile(r"\b(?:communicate|wait|wait_procs|join)\((?:[^()]*timeout=)?\d")
    found = {path.name: plain.findall(path.read_text("utf-8")) for path in FILES}
    assert {name: waits for name, waits in found.items() if waits} == {}
