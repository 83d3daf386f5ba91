"""The user's config file: defaults of options, in a small TOML file that `localemp config` and people write.

    model = "llama"
    max-tokens = 200
    engine-arg = ["enforce_eager=true"]

Only the command line reads it. Library functions take what they are given, so that a script does the same everywhere.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localemp.errors import DataError
from localemp.utils.files import write_atomically, write_errors
from localemp.utils.text import one_line
from localemp.utils.toml_lines import lines_of_keys
from localemp.utils.toml_reader import TOMLError, load_toml, parse_toml

VARIABLE = "LOCALEMP_CONFIG"
Value = str | int | float | list[str]
"""A default: a text, a number, or the texts of an option that may be repeated."""

_HINT = 'a line looks like model = "llama"; `localemp config list --all` has the keys'
_LONGEST = 4_000  # characters of a text
_HEAD = "# Defaults of localemp's options. `localemp config list --all` shows all keys.\n"


@dataclass(frozen=True, slots=True)
class UserConfig:
    """The defaults of a config file.

    Attributes:
        path: The file, which may not exist.
        values: The defaults by key; a key is an option's name without its dashes: "base-url".
        lines: The line of each key, from 1.
    """

    path: Path
    values: Mapping[str, Value] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def error(self, key: str, message: str, hint: str = "") -> DataError:
        """Return the error for what is wrong with a key."""
        return DataError(self.path, f"{one_line(key, 60)}: {message}", hint or _HINT, self.lines.get(key))


def config_path() -> Path:
    """Return the config file: `$LOCALEMP_CONFIG`, else `localemp/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "localemp" / "config.toml"


def read_config() -> UserConfig:
    """Read the config file; one that does not exist, or is the null device, has no defaults.

    Raises:
        DataError: It cannot be read, or a value is of a kind that no option takes; names file and line.
    """
    path = config_path()
    if str(path) == os.devnull:
        return UserConfig(path)
    try:
        content, raw = load_toml(path)
    except (FileNotFoundError, NotADirectoryError):
        return UserConfig(path)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}", f"repair it, or set {VARIABLE}") from error
    except TOMLError as error:
        raise DataError(path, str(error), f"{_HINT}. Repair the line, or delete the file") from error
    places = lines_of_keys(raw.decode("utf-8-sig"))
    config = UserConfig(path, lines={str(place[0]): line for place, line in reversed(list(places.items()))})
    for key, value in content.items():
        if why := _unusable(value):
            raise config.error(key, why)
    return UserConfig(path, content, config.lines)


def _unusable(value: object) -> str:
    """Return why a value is none of an option's; empty if it can be one."""
    several = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in several):
        return "an option's value is a text, a number, or a list of texts"
    for one in several:
        if isinstance(value, list) and not isinstance(one, str):
            return "only texts can be in a list"
        if isinstance(one, float) and not math.isfinite(one):
            return "it is not a finite number"
        if len(str(one)) > _LONGEST:
            return f"it has more than {_LONGEST:,} characters"
        if isinstance(one, str) and (not one.strip() or not one.isprintable()):
            return "it is empty, or has characters that cannot be printed"
    return ""


def write_value(key: str, value: Value | None) -> Path:
    """Set a default, or take it away; comments and the other lines stay.

    Args:
        key: The key.
        value: The value; None to take it away.

    Returns:
        The file.

    Raises:
        DataError: The file is damaged, or cannot be written.
    """
    config = read_config()
    path = config.path.resolve()  # a link to the file, as people keep their settings in a repository, stays one
    if path.exists() and not path.is_file():  # the null device, which must not be replaced
        raise DataError(config.path, "not a regular file, so nothing can be set", f"name another file in {VARIABLE}")
    values = {name: old for name, old in config.values.items() if name != key}
    values |= {} if value is None else {key: value}
    before = path.read_text("utf-8-sig") if path.is_file() else _HEAD
    line = None if value is None else f"{key} = {_toml(value)}"
    text = _with_line(before, key, line)
    if not _holds(text, values):  # a value of several lines, or a key in quotation marks: written anew
        text = "".join([_HEAD, *(f"{name} = {_toml(each)}\n" for name, each in values.items())])
    with write_errors(lambda why, hint: DataError(path, why, hint), f"name another file in {VARIABLE}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, text, 0o600)
    return config.path


def _with_line(text: str, key: str, line: str | None) -> str:
    """Return a file's text with a line for a key in the place of the old one, or at its end."""
    kept = list(_lines_but(text, key, line))
    if line is not None and line not in kept:
        kept.append(line)
    return "".join(f"{each}\n" for each in kept)


def _lines_but(text: str, key: str, line: str | None) -> Iterator[str]:
    for each in text.splitlines():
        name, equals, _ = each.partition("=")
        if not equals or name.strip(" \t\"'") != key:
            yield each
        elif line is not None:
            yield line


def _holds(text: str, values: Mapping[str, Value]) -> bool:
    try:
        return parse_toml(text.encode()) == values
    except TOMLError:
        return False


def _toml(value: Value) -> str:
    """Return a value as TOML writes it, which for texts without control characters is as JSON does."""
    return json.dumps(value, ensure_ascii=False)
