"""Check that a study's files are well-formed and fit one another."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from localemp.errors import RunError
from localemp.studies.schema import Item, Key, Manifest
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line
from localemp.utils.validation import format_validation_error

M = TypeVar("M", bound=BaseModel)

RESTORE = "restore the file, or create the study again"


def parse_model(model: type[M], content: bytes, path: Path, line: int | None = None) -> M:
    """Parse a file's JSON, or that of one of its lines, as a model.

    Raises:
        RunError: It is not valid JSON, or has another form.
    """
    try:
        return model.model_validate(parse_json(content, storable=True))
    except (JSONError, ValidationError) as error:
        inner = error.line if isinstance(error, JSONError) else None
        said = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        place = path if (number := line or inner) is None else f"{path}, line {number}"
        raise RunError(f"{place}: {one_line(said)}", RESTORE) from error


def check_items(path: Path, manifest: Manifest, items: Sequence[Item]) -> None:
    """Check that the items fit the manifest.

    Raises:
        RunError: Two have one name, or one has too few or too many replies.
    """
    names = [item.id for item in items]
    keys = [reply.key for item in items for reply in item.replies]
    wrong = [item.id for item in items if (len(item.replies) != 2 if manifest.scale is None else not item.replies)]
    said = [*_twice(names, "items"), *_twice(keys, "replies"), *(f"item {name} has other replies" for name in wrong)]
    if said:
        raise RunError(f"{path}: {one_line(said[0])}", RESTORE)


def check_key(path: Path, key: Key, items: Sequence[Item]) -> None:
    """Check that a key fits the items.

    Raises:
        RunError: It has other items or replies, one system twice in an item, or systems that have no source.
    """
    names = {item.id for item in items}
    rated = [item for item in items if item.id not in key.checks]
    blinded = {reply.key for item in rated for reply in item.replies}
    wrong = (
        *((key.dialogues.keys() | key.checks.keys()) ^ names),
        *(key.systems.keys() ^ blinded),
        *(set(key.systems.values()) - key.sources.keys()),
        *(item.id for item in rated if len({key.systems.get(reply.key) for reply in item.replies}) < len(item.replies)),
    )
    if wrong:
        raise RunError(f"{path}: it is of another study: {one_line(', '.join(sorted(wrong)[:3]))}", RESTORE)


def _twice(names: Sequence[str], what: str) -> Iterator[str]:
    return (f"two {what} are called {name}" for name, times in Counter(names).items() if times > 1)
