"""vLLM's engine arguments, checked before anything starts.

Importing vLLM takes seconds. So names and types are read from the source of its `AsyncEngineArgs`, which is not run.
What cannot be told from the source is left to vLLM.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from localemp.engines.vllm import names
from localemp.errors import OptionError, UnknownNameError
from localemp.utils.text import json_text

ALL_ARGUMENTS = "`vllm serve --help=all`"
_PLAIN: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool, int),  # 0 and 1
    "int": (int,),
    "float": (int, float),
    "list": (list, tuple),
    "set": (list, tuple, set),
    "dict": (dict,),
}
_ABOUT = {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number", "dict": "a JSON object"}
_ABOUT |= {"list": "a JSON list", "set": "a JSON list"}


def check_engine_args(engine_args: Mapping[str, Any]) -> None:
    """Check names and plain types of engine arguments against the installed vLLM's source.

    Raises:
        UnknownNameError: vLLM has no argument of this name.
        OptionError: A value is of another type.
    """
    known = _arguments() if engine_args else {}
    for name, value in engine_args.items() if known else ():
        if name not in known:
            raise unknown_argument(name, known)
        kinds = list(_alternatives(known[name]))
        if value is None or any(_may_be(kind, value) for kind in kinds):
            continue
        wanted = ", or ".join(dict.fromkeys(told for kind in kinds for told in _told(kind)))
        raise OptionError(f"the engine argument {name}={json_text(value)} cannot be used", f"give {wanted}")


def unknown_argument(name: str, known: Mapping[str, Any] | set[str]) -> UnknownNameError:
    """Return the error for an argument that vLLM does not have."""
    public = sorted(each for each in known if not each.startswith("_"))
    return UnknownNameError("engine argument", name, public, all_in=ALL_ARGUMENTS)


@cache
def _arguments() -> dict[str, ast.expr]:
    """Return the type of each engine argument as the source has it; empty if the source cannot be read."""
    try:
        tree = ast.parse(_source(names.NAMES["AsyncEngineArgs"][0]).read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return dict(_fields("AsyncEngineArgs", classes))


def _fields(name: str, classes: Mapping[str, ast.ClassDef]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the fields of a dataclass, those of its bases first."""
    if name in classes:
        for base in classes[name].bases:
            if isinstance(base, ast.Name):
                yield from _fields(base.id, classes)
        for node in classes[name].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id, node.annotation


def _source(module: str) -> Path:
    """Return the file of a module of vLLM without importing the package."""
    package, *inner = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(module)
    return Path(spec.submodule_search_locations[0], *inner).with_suffix(".py")


def _alternatives(kind: ast.expr) -> Iterator[ast.expr]:
    """Yield the members of a union; names of lists of values that vLLM's configuration defines are looked up."""
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        yield from _alternatives(kind.left)
        yield from _alternatives(kind.right)
    elif isinstance(kind, ast.Name) and kind.id not in _PLAIN and (found := _literal(kind.id)) is not None:
        yield found
    else:
        yield kind


@cache
def _literal(name: str) -> ast.expr | None:
    """Return the `Literal[...]` that vLLM's configuration defines under a name; None if there is none."""
    try:
        for path in sorted(_source("vllm.config").with_suffix("").glob("*.py")):
            text = path.read_text("utf-8")
            if f"\n{name} = Literal[" in text:
                for node in ast.parse(text).body:
                    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                        return node.value
    except (OSError, SyntaxError, ValueError):
        pass
    return None


def _values(kind: ast.expr) -> list[Any] | None:
    """Return the values of a `Literal[...]`; None for another type, or for values that are not constants."""
    if not (isinstance(kind, ast.Subscript) and isinstance(kind.value, ast.Name) and kind.value.id == "Literal"):
        return None
    each = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
    values = [one.value for one in each if isinstance(one, ast.Constant)]
    return values if len(values) == len(each) else None


def _plain(kind: ast.expr) -> str:
    """Return the name of a plain type, without what it holds; empty for any other."""
    outer = kind.value if isinstance(kind, ast.Subscript) else kind
    return outer.id if isinstance(outer, ast.Name) and outer.id in _PLAIN else ""


def _may_be(kind: ast.expr, value: Any) -> bool:
    if isinstance(kind, ast.Constant) and kind.value is None:
        return value is None
    if (values := _values(kind)) is not None:
        return value in values
    if not (plain := _plain(kind)):
        return True  # a class of vLLM's
    if isinstance(value, bool) and plain in ("int", "float"):
        return False
    return isinstance(value, _PLAIN[plain]) and not (plain == "bool" and value not in (0, 1))


def _told(kind: ast.expr) -> Iterator[str]:
    if (values := _values(kind)) is not None:
        yield f"one of {', '.join(map(str, values))}"
    elif plain := _plain(kind):
        yield _ABOUT[plain]
