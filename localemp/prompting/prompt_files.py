"""Reads files of prompts (variants, judges' prompts, questionnaires), and those that change some keys of another."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from localemp.errors import PromptError, UnknownNameError
from localemp.utils.files import is_file
from localemp.utils.paths import StrPath
from localemp.utils.text import one_line
from localemp.utils.toml_reader import TOMLError, load_toml
from localemp.utils.validation import format_validation_error

EXTENDS = "extends"
MOST_FILES = 8
"""Longest chain of files that extend one another."""

P = TypeVar("P", bound=BaseModel)


class PromptFile(NamedTuple):
    """A file of prompts before it is validated.

    Attributes:
        path: The file.
        fields: Its keys and those of the files that it extends.
        sha256: SHA-256 of the file, and of what it extends.
        changes: Its own keys with dots, such as "task.guideline"; empty if it extends nothing.
        base: The file that it extends.
    """

    path: Path
    fields: dict[str, Any]
    sha256: str
    changes: tuple[str, ...] = ()
    base: Path | None = None


def prompt_file(given: StrPath, kind: str, bundled: Mapping[str, Path]) -> Path:
    """Return the file that a name of a bundled one, or a path, stands for.

    Args:
        given: The name or the path; "./NAME" is always a path.
        kind: What the file holds, for the error.
        bundled: The files that ship with localemp, by name.

    Raises:
        UnknownNameError: It is a bare word, and neither the name of one nor a file.
    """
    name = str(given)
    if name in bundled:
        return bundled[name]
    path = Path(given)
    if path.name == name and not path.suffix and not is_file(path):
        raise UnknownNameError(kind, name, bundled, "It may also be a file")
    return path


def read_prompts(path: Path, form: type[P], example: Path, kind: str, bundled: Mapping[str, Path]) -> P:
    """Read and validate a TOML file of prompts.

    A file with `extends` has the keys of another file, and its own in their place: tables key by key, all else whole.

    Args:
        path: The file.
        form: Schema of the file; its `sha256` is set to the hash of the file.
        example: A valid file, for error messages.
        kind: What the file holds, for error messages.
        bundled: The files that ship with localemp, by name, for `extends`.

    Raises:
        PromptError: A file is missing or not valid TOML, a key is unknown, missing or invalid (names the key), or files
            extend one another in a circle.
        UnknownNameError: What it extends does not exist.
    """
    found = load_prompt_file(path, example, kind, bundled)
    fields = found.fields
    if found.base is not None:
        told = {
            "name": path.stem,
            "description": f"{found.base.stem}, except {one_line(', '.join(found.changes), 200)}",
        }
        fields |= {key: text for key, text in told.items() if key in form.model_fields and key not in found.changes}
    try:
        return form.model_validate({**fields, "sha256": found.sha256})
    except ValidationError as error:
        raise PromptError(f"{path}: {format_validation_error(error, form=form)}", f"compare with {example}") from error


def load_prompt_file(path: Path, example: Path, kind: str, bundled: Mapping[str, Path]) -> PromptFile:
    """Read a file of prompts and those that it extends; see `read_prompts` for arguments and errors."""
    chain: list[tuple[Path, dict[str, Any], bytes]] = []
    seen: set[Path] = set()
    following: Path | None = path
    while following is not None:
        if len(chain) == MOST_FILES or following.resolve() in seen:
            names = " extends ".join(str(file) for file, _, _ in chain)
            wrong = "in a circle" if following.resolve() in seen else f"in a chain of more than {MOST_FILES} files"
            raise PromptError(
                f"{names} extends {following}: {wrong}", f"let the last one extend {next(iter(bundled))!r}"
            )
        seen.add(following.resolve())
        fields, content = _load(following, example)
        chain.append((following, fields, content))
        following = _base_of(following, fields, kind, bundled)
    merged: dict[str, Any] = {}
    digest = ""
    for _, fields, content in reversed(chain):
        own = {key: value for key, value in fields.items() if key != EXTENDS}
        merged = _over(merged, own)
        digest = hashlib.sha256(content + digest.encode()).hexdigest()
    if len(chain) == 1:
        return PromptFile(path, merged, digest)
    changes = tuple(name for name in _dotted(chain[0][1]) if name != EXTENDS)
    return PromptFile(path, merged, digest, changes, chain[1][0])


def _load(path: Path, example: Path) -> tuple[dict[str, Any], bytes]:
    hint = f"give a file like {example}"
    try:
        return load_toml(path)
    except FileNotFoundError as error:
        raise PromptError(f"{path}: no such file", hint) from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except TOMLError as error:
        raise PromptError(f"{path}: {error}", f"compare with {example}") from error


def _base_of(path: Path, fields: Mapping[str, Any], kind: str, bundled: Mapping[str, Path]) -> Path | None:
    """Return the file that a file extends; a path is relative to the file itself."""
    name = fields.get(EXTENDS)
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise PromptError(f"{path}: extends: not a name", f'write extends = "{next(iter(bundled))}", or a path')
    if name in bundled:
        return bundled[name]
    beside = path.parent / name
    if "/" not in name and not name.endswith(".toml") and not is_file(beside):
        why = f"{path} extends it"
        raise UnknownNameError(kind, name, bundled, "A path, relative to the file, works too", why)
    return beside


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with another over it; what is a table in both is joined."""
    joined = dict(base)
    for key, value in own.items():
        below = joined.get(key)
        joined[key] = _over(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return joined


def _dotted(fields: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
