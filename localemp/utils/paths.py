"""Paths on this machine: files that ship with localemp, and its cache."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

StrPath = str | os.PathLike[str]
Named = StrPath | Iterable[StrPath] | Mapping[str, StrPath]
"""One path or several; a mapping has their names, and so has "NAME=PATH"."""

_PACKAGE = Path(__file__).parents[1]


def resource(*parts: str) -> Path:
    """Return the path of a file that ships with localemp, such as `resource("models", "smollm2.toml")`.

    A wheel has `models/` and `prompts/` inside the package; a checkout has them next to it.
    """
    packed = _PACKAGE / "_resources"
    return (packed if packed.is_dir() else _PACKAGE.parent).joinpath(*parts)


def cache_dir(*parts: str) -> Path:
    """Return a path in the cache: `$LOCALEMP_CACHE`, else `$XDG_CACHE_HOME/localemp`, else `~/.cache/localemp`."""
    chosen = os.environ.get("LOCALEMP_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localemp"
    return base.joinpath(*parts)


def at_home(path: str | Path) -> Path:
    """Expand a leading `~` as a shell does; the path is unchanged if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def paths_of(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """Return one path or several as a list."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]


def named_paths(paths: Named) -> list[tuple[str, Path]]:
    """Return one path or several, each with its name; the name is empty where none is given.

    What exists as it stands is a path, whatever signs it has. A name may have a "=", too: the path is the part that
    exists.
    """
    if isinstance(paths, Mapping):
        return [(name, Path(path)) for name, path in paths.items()]
    return [_named(path) for path in paths_of(paths)]


def _named(path: Path) -> tuple[str, Path]:
    text = str(path)
    places = [] if os.path.lexists(text) else [place for place, sign in enumerate(text) if sign == "=" and place]
    for place in places:
        if os.path.lexists(text[place + 1 :]):
            return text[:place], Path(text[place + 1 :])
    return (text[: places[0]], Path(text[places[0] + 1 :])) if places else ("", path)
