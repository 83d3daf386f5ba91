"""Parts of strategies that are the user's own code: `--strategy ./mine.py:Shout`, `--strategy mine:Shout`.

Only a command line and Python may name code; a plan may not (`allow` of `parse_strategy`), and a server's clients name
only what it offers.
"""

import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from localemp.errors import OptionError, nearest
from localemp.strategies.base import Enricher, Flow
from localemp.strategies.parts import Part, as_part
from localemp.utils.files import version_of
from localemp.utils.paths import at_home
from localemp.utils.plugins import error_line

_FORM = re.compile(r"(?P<source>[A-Za-z_][\w.]*|.+\.py):(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Code:
    """A part and where it comes from.

    Attributes:
        part: The part.
        sha256: A hash of the file that has it; of a class from elsewhere, of both files.
    """

    part: Part
    sha256: str


def is_code(name: str) -> bool:
    """Return whether a part's name is that of a file or module and of something in it."""
    return _FORM.fullmatch(name) is not None


def code_name(name: str) -> str:
    """Return the part of the name after the colon, which names it in manifests and tables."""
    return name.rpartition(":")[2]


def load_code(name: str) -> Code:
    """Load a part from a file, or from a module that is installed or in the working directory.

    Args:
        name: "./mine.py:Shout" or "mine:Shout".

    Raises:
        OptionError: There is no such file, module or part, or its code raises an exception.
    """
    source = name.rpartition(":")[0]
    if not source.endswith(".py"):
        return _from_module(name, source)
    path = at_home(source)
    try:
        version = version_of(path)
    except (OSError, ValueError) as error:
        raise OptionError(f"--strategy {name}: there is no file {path}", "give its path, such as ./mine.py") from error
    return _from_file(name, path.absolute(), version)


@lru_cache(64)
def _from_file(name: str, path: Path, version: tuple[int, ...]) -> Code:
    """Run a file; once for as long as it does not change."""
    _make_importable(path.parent)
    with _in_words(name, path):
        content = path.read_bytes()
        digest = hashlib.sha256(content)
        module = ModuleType(f"localemp_code_{digest.hexdigest()[:16]}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # dataclasses look there
        exec(compile(content, str(path), "exec"), vars(module))
    return _part_of(module, name, content)


@cache
def _from_module(name: str, source: str) -> Code:
    _make_importable(Path.cwd())
    try:
        with _in_words(name):
            module = importlib.import_module(source)
    except OptionError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{source}.".startswith(f"{missing.name}."):
            raise OptionError(
                f"--strategy {name}: there is no module {missing.name!r}, neither installed nor in this folder",
                f"a file is named with its ending: ./{source.replace('.', '/')}.py:{code_name(name)}",
            ) from error
        raise
    file = getattr(module, "__file__", None)
    if file is None:
        raise OptionError(f"--strategy {name}: {source} is a folder or a part of Python, not a module in a file")
    with _in_words(name):
        content = Path(file).read_bytes()
    return _part_of(module, name, content)


def _part_of(module: ModuleType, name: str, content: bytes) -> Code:
    with _in_words(name):
        value = getattr(module, code_name(name), None)
    if value is None:
        raise OptionError(f"--strategy {name}: there is no {code_name(name)!r} in it", _hint(module, code_name(name)))
    try:
        part = as_part(code_name(name), value)
    except OptionError as error:
        raise OptionError(f"--strategy {name}: {error.message}", error.hint or _hint(module, "")) from error
    digest = hashlib.sha256(content)
    elsewhere = sys.modules.get(value.__module__) if isinstance(value, type) else None
    if elsewhere is not None and elsewhere is not module and elsewhere.__file__:
        digest.update(Path(elsewhere.__file__).read_bytes())
    return Code(part, digest.hexdigest())


def _hint(module: ModuleType, name: str) -> str:
    there = [each for each, value in vars(module).items() if _is_part(value, module)]
    near = nearest(name, there)
    listed = f"it has {', '.join(there)}" if there else "it has no Part, and no subclass of Flow or Enricher"
    return f"did you mean {near!r}? {listed}" if near else listed


def _is_part(value: Any, module: ModuleType) -> bool:
    if isinstance(value, type):
        return issubclass(value, Flow | Enricher) and value.__module__ == module.__name__
    return isinstance(value, Part)


def _make_importable(folder: Path) -> None:
    """Let code import its neighbours; what is installed comes first."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # a file may be newer than Python's look into its folder


@contextmanager
def _in_words(name: str, path: Path | None = None) -> Iterator[None]:
    """Turn whatever code raises into one sentence, with the line of the file that it came from."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit included
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise OptionError(f"--strategy {name}{where}: {error_line(error)}") from error
