"""An option that a part of a strategy or a metric declares: the command line, Python and servers read it from here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from localemp.errors import OptionError

T = TypeVar("T")


def check_at_least(least: int, **numbers: float | None) -> None:
    """Check numbers by their names in Python; None is a number that is not given.

    Raises:
        OptionError: One is smaller.
    """
    for name, value in numbers.items():
        if value is not None and value < least:
            raise OptionError(f"--{name.replace('_', '-')} {value}: too small", f"give {least} or more, or omit it")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """An option of a part or a metric.

    Attributes:
        name: The key in Python and in requests; the command line has it with hyphens.
        type: What a value is: `int`, `str`, `bool`, `Path`, a `Literal`, `tuple[..., ...]` for several, or one of them
            with `| None`.
        default: The value where nothing is said.
        help: One line for `--help`.
        flags: How the command line spells it where that is not its name, such as "--labels/--no-labels".
        metavar: What `--help` calls the value.
        parse: Reads what was typed, where the type alone does not say how.
        ignorable: Whether a strategy without a part that heeds it takes no offence, so that one command line does for
            several strategies.
        of_data: Whether it is about a data set. A server, which has none, does not offer it.
        in_requests: What a client of a server may set it to, as pydantic takes it; None where it may not.
    """

    name: str
    type: Any = str
    default: Any = None
    help: str = ""
    flags: str = ""
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    ignorable: bool = False
    of_data: bool = False
    in_requests: Any = None

    @property
    def flag(self) -> str:
        """The option as the command line spells it, such as "--shots"; of "--labels/--no-labels", the first."""
        return self.flags.partition("/")[0] or f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> Any:
        """Return a value as this option has it: a path for a text, a tuple for a list.

        Raises:
            OptionError: It is none that the option can have.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError as error:
            raise OptionError(f"{self.flag}: {error.errors(include_url=False)[0]['msg']}") from error


def unique(options: Iterable[Option]) -> tuple[Option, ...]:
    """Return each option once: several parts may share one.

    Raises:
        OptionError: Two different options have one name.
    """
    found: dict[str, Option] = {}
    for option in options:
        if found.setdefault(option.name, option) is not option:
            raise OptionError(f"two options are called {option.name!r}", "share one `Option`, or rename the newer")
    return tuple(found.values())


def defaults(options: Iterable[Option]) -> dict[str, Any]:
    """Return the defaults of options, by name."""
    return {option.name: option.default for option in options}


class Shared:
    """Things that are made once, under a key."""

    def __init__(self) -> None:
        self._things: dict[Any, Any] = {}

    def __call__(self, key: Any, make: Callable[[], T]) -> T:
        """Return the thing of this key, made now if it is not there."""
        if key not in self._things:
            self._things[key] = make()
        thing: T = self._things[key]
        return thing
