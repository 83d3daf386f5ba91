"""Plug-ins: entry points of installed packages that add strategies, metrics, engines and readers of data.

A registry calls `load_plugins` before it looks something up. The entry points of its group are loaded once a process;
one that fails is kept with its error, is told once on the log, and stops nothing else. See docs/extending.md.
"""

import inspect
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar

from localemp.errors import LocalempError, OptionError
from localemp.utils.option import Option
from localemp.utils.redaction import redact_text
from localemp.utils.text import one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")
Kind = Literal["strategy", "metric", "engine", "data reader"]
GROUPS: Mapping[Kind, str] = {
    "strategy": "localemp.strategies",
    "metric": "localemp.metrics",
    "engine": "localemp.engines",
    "data reader": "localemp.data",
}

_LONGEST_NAME = 60
_LOCK = RLock()
_loading: list[Kind] = []  # the kind that is loaded now
_tried: "list[Plugin]" = []


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point that was tried.

    Attributes:
        kind: What it adds.
        name: Its name.
        package: The distribution that has it.
        version: The distribution's version.
        error: Why it cannot be used; empty if it can.
        module: The module that it is in.
    """

    kind: Kind
    name: str
    package: str
    version: str
    error: str = ""
    module: str = ""

    @property
    def state(self) -> str:
        """Whether it can be used, and if not, why."""
        return f"failed: {self.error}" if self.error else "ok"

    @property
    def problem(self) -> str:
        """What is wrong with it, in one sentence."""
        return f"the plug-in {self.name} of {self.package} {self.version} failed to load: {self.error}"


def load_plugins(kind: Kind, add: Callable[[str, Any], None]) -> None:
    """Load the plug-ins of one kind, the first time that this is called.

    Args:
        kind: The kind.
        add: Adds one to its registry, by the entry point's name and value; raises what is wrong with it.
    """
    with _LOCK:
        if _loading:
            return  # a plug-in asks while it is imported; it sees what is there so far
        _loading.append(kind)
        try:
            waiting = _found()[kind]
            while waiting:
                _tried.append(_load(kind, waiting.pop(0), add))
        finally:
            _loading.clear()


def _load(kind: Kind, entry: EntryPoint, add: Callable[[str, Any], None]) -> Plugin:
    plugin = Plugin(kind, one_line(entry.name, _LONGEST_NAME), *_package(entry.dist), module=entry.module)
    try:
        if plugin.name != entry.name:
            raise OptionError(f"its name is not one line of at most {_LONGEST_NAME} characters")
        add(entry.name, entry.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever another's module does, SystemExit included
        plugin = replace(plugin, error=error_line(error))
        logger.warning("%s (`localemp doctor` lists all plug-ins)", plugin.problem)
    return plugin


def plugins() -> list[Plugin]:
    """Return the plug-ins that were tried in this process."""
    return sorted(_tried, key=lambda plugin: ([*GROUPS].index(plugin.kind), plugin.name, plugin.package))


def plugin_of(kind: Kind, name: str) -> Plugin | None:
    """Return the plug-in that something registered comes from; None if it is not from a plug-in."""
    return next((each for each in _tried if (each.kind, each.name, each.error) == (kind, name, "")), None)


def why_missing(kind: Kind, name: str) -> str:
    """Return why a plug-in of this name could not be loaded; empty if there is none."""
    return next((each.problem for each in _tried if each.error and (each.kind, each.name) == (kind, name)), "")


def whose_fault(error: BaseException) -> str:
    """Return the package and the line of a plug-in that an exception came through last; empty if through none."""
    packages = {each.module.partition(".")[0]: each for each in _tried if not each.error}
    packages.pop("localemp", None)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if plugin := packages.get(str(frame.f_globals.get("__name__")).partition(".")[0]):
            return one_line(f"{plugin.package} {plugin.version}, {Path(frame.f_code.co_filename).name}, line {line}")
    return ""


def error_line(error: BaseException) -> str:
    """Return another's exception in one bounded line, without secrets."""
    if isinstance(error, LocalempError):
        return one_line(redact_text(error.with_hint), 300)
    name, text = type(error).__name__, redact_text(str(error))
    return one_line(f"{name}: {text}" if text else name, 300)


def as_entry(what: str, value: object, entry: type[T], bases: tuple[type, ...], of_class: Callable[[type], T]) -> T:
    """Return the entry that a plug-in gives to a registry: as it is, or made of a class that needs no arguments.

    Args:
        what: What it adds, for errors: "an engine".
        value: The entry or the class.
        entry: The class of the registry's entries.
        bases: What the class is a subclass of.
        of_class: Makes the entry of the class.

    Raises:
        OptionError: It is something else, or the class cannot be called without arguments.
    """
    if isinstance(value, type) and issubclass(value, bases):
        check_made_from(value)
        return of_class(value)
    if not isinstance(value, entry):
        named = " or ".join(base.__name__ for base in bases)
        raise OptionError(f"it is {described(value)}; {what} is {_with_article(entry)}, or a subclass of {named}")
    return value


def check_made_from(kind: type, *arguments: object) -> None:
    """Check that a class can be called with these arguments.

    Raises:
        OptionError: It is abstract, or needs others.
    """
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise OptionError(f"the class {kind.__name__} does not define {', '.join(missing)}")
    try:
        inspect.signature(kind).bind(*arguments)
    except TypeError as error:
        raise OptionError(f"the class {kind.__name__} cannot be called by localemp: {error}") from error


def check_options(name: str, options: Sequence[object], known: Iterable[Option]) -> None:
    """Check the options of a plug-in, since one that is wrong would stop every command that has it.

    They begin with the plug-in's name, so that none takes the place of another's.

    Args:
        name: The plug-in's name.
        options: Its options.
        known: Options that are registered already; a plug-in may share them.

    Raises:
        OptionError: One is not an `Option`, has another name, or its default is not of its type.
    """
    begin, shared = re.sub(r"\W", "_", name).lower(), set(known)
    for option in options:
        if not isinstance(option, Option):
            raise OptionError(f"its options hold {described(option)}, not an Option")
        if option in shared:
            continue
        if not _is_own(option, begin):
            raise OptionError(
                f"its option {option.name!r} has to be called {begin!r}, or begin with '{begin}_' (lower case)"
            )
        if not isinstance(option.help, str):
            raise OptionError(f"the help of its option {option.name!r} is {described(option.help)}")
        option.check(option.default)
        if option.in_requests is not None:
            from pydantic import TypeAdapter

            TypeAdapter(option.in_requests | None)


def _is_own(option: Option, begin: str) -> bool:
    """Return whether name and flags are the plug-in's, and such that a command line can have them."""
    flags = [re.sub("^--(no-)?", "", flag).replace("-", "_") for flag in option.flags.split("/") if flag]
    return option.name.isidentifier() and all(
        re.fullmatch(rf"{begin}(_[a-z0-9_]+)?", name) for name in (option.name, *flags)
    )


def described(value: object) -> str:
    """Return what a value is, for errors: "an int", "the class Shout"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return _with_article(type(value))


def _with_article(kind: type) -> str:
    name = kind.__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


@cache
def _found() -> Mapping[Kind, list[EntryPoint]]:
    """Return the entry points of our groups in the order of their packages; of a package found twice, the first's."""
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        try:
            entries = [each for each in distribution.entry_points if each.group in GROUPS.values()]
            if entries:
                found.setdefault(re.sub(r"[-_.]+", "-", distribution.name).lower(), entries)
        except Exception as error:  # a package that is not well installed
            logger.warning("the entry points of an installed package cannot be read: %s", error_line(error))
    entries = [each for package in sorted(found) for each in found[package]]
    return {kind: [each for each in entries if each.group == group] for kind, group in GROUPS.items()}


def _package(distribution: Distribution | None) -> tuple[str, str]:
    assert distribution is not None, "it was found in one"
    return one_line(distribution.name, 100), one_line(distribution.version or "?", 40)
