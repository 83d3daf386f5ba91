"""Options that parts of strategies and metrics declare, for the command line, Python and servers."""

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
        type: Type of a value: `int`, `str`, `bool`, `Path`, a `Literal`, `tuple[..., ...]` for several, or one of them
            with `| None`.
        default: The value if none is given.
        help: One line for `--help`.
        flags: Spelling on the command line if it is not the name, such as "--labels/--no-labels".
        metavar: Name of the value in `--help`.
        parse: Parses the text of the command line if the type alone is not enough.
        of_data: Whether it is about a data set. Servers have none, and do not offer it.
        in_requests: Type (for pydantic) of the values that clients of a server may set; None if they may not.
    """

    name: str
    type: Any = str
    default: Any = None
    help: str = ""
    flags: str = ""
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    of_data: bool = False
    in_requests: Any = None

    @property
    def flag(self) -> str:
        """The option on the command line, such as "--shots"; of "--labels/--no-labels", the first."""
        return self.flags.partition("/")[0] or f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> Any:
        """Validate a value, and return it in the option's type: a path for a string, a tuple for a list.

        Raises:
            OptionError: The value is invalid.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(self.type).validate_python(value)
        except ValidationError as error:
            raise OptionError(f"{self.flag}: {error.errors(include_url=False)[0]['msg']}") from error


def unique(options: Iterable[Option]) -> tuple[Option, ...]:
    """Return each option once: several parts may share one.

    Raises:
        OptionError: Two different options have the same name.
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
    """Objects that are built once, by key."""

    def __init__(self) -> None:
        self._things: dict[Any, Any] = {}

    def __call__(self, key: Any, make: Callable[[], T]) -> T:
        """Return the object of a key; builds it the first time."""
        if key not in self._things:
            self._things[key] = make()
        thing: T = self._things[key]
        return thing
