"""Whether a script may start processes: a new Python process imports the script again, and would run it anew."""

import ast
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from localemp.errors import OptionError

_GUARD = 'if __name__ == "__main__":'


def check_main_guard(what: str) -> None:
    """Check that the script that runs now is at a line that no process of its own would run again.

    Args:
        what: What starts processes, for the error.

    Raises:
        OptionError: It is not below a main guard.
    """
    if (found := _unguarded()) is not None:
        path, line = found
        if not path.is_file():  # from standard input
            raise OptionError(
                f"the script {path} is no file", f"{what} starts a process that imports it: save it first"
            )
        raise OptionError(
            f"{what} cannot start at {path}, line {line}: put it below `{_GUARD}`",
            "a new process imports the script, and would run this line again",
        )


def _unguarded() -> tuple[Path, int] | None:
    """Return the file and the line of the main script that runs now, if a new process would run it, too."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if main is None or not file or (spec is not None and spec.name.rpartition(".")[2] == "__main__"):
        return None  # an interactive session, or a package; a new process imports neither
    path = Path(file)
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and not (frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    if frame is None or path.stem == "ipython":
        return None
    line = frame.f_lineno
    if not path.is_file():
        return path, line
    try:
        guarded = any(first <= line <= last for first, last in _guards(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return None
    return None if guarded else (path, line)


def _guards(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line of what only the main script runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            sides = {ast.unparse(side) for side in (node.test.left, *node.test.comparators)}
            if sides == {"__name__", "'__main__'"}:
                body = node.body if isinstance(node.test.ops[0], ast.Eq) else node.orelse
                if body:
                    yield body[0].lineno, body[-1].end_lineno or body[-1].lineno
