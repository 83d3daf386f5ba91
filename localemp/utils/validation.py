"""Validation of files with pydantic, and readable messages for its errors."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from localemp.errors import nearest
from localemp.utils.text import one_line

_IN_WORDS = {"extra_forbidden": "unknown key", "missing": "missing key"}
_LONGEST = 400  # characters of one error; keys and values come from the file
_MOST = 5  # errors that are listed; a file of another kind has very many


class Lenient(BaseModel):
    """A schema of localemp's own files. Unknown keys, which other versions write, are allowed."""

    model_config = ConfigDict(strict=True)


def format_validation_error(
    error: ValidationError,
    words: Mapping[tuple[str, str], str] = {},
    *,
    kinds: Mapping[str, str] = {},
    form: type[BaseModel] | None = None,
) -> str:
    """Return the distinct errors as "key: problem"; list entries are counted from 1, as in `table[2].rows`.

    Args:
        error: The exception of pydantic.
        words: Replaces pydantic's message, by key and type of the error.
        kinds: The same, by type alone.
        form: The schema; with it, an unknown key is told with the one that is probably meant.
    """
    told = []
    for each in error.errors(include_url=False):
        key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in each["loc"])
        key, kind = key.removeprefix("."), each["type"]
        what = (
            words.get((key, kind))
            or kinds.get(kind)
            or _IN_WORDS.get(kind)
            or each["msg"].removeprefix("Value error, ")
        )
        if kind == "extra_forbidden" and (near := nearest(str(each["loc"][-1]), _keys_at(form, each["loc"][:-1]))):
            what += f", did you mean {near!r}?"
        told.append(one_line(f"{key}: {what}" if key else what, _LONGEST))
    told = list(dict.fromkeys(told))
    more = [f"and {len(told) - _MOST} more"] if len(told) > _MOST else []
    return "; ".join(told[:_MOST] + more)


def _keys_at(form: type[BaseModel] | None, place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a schema has at a place; none where it cannot be told."""
    forms = [] if form is None else [form]
    for part in place:
        if isinstance(part, str):
            fields = [each.model_fields[part].annotation for each in forms if part in each.model_fields]
            forms = [inner for annotation in fields for inner in _forms_in(annotation)]
    return [name for each in forms for name in each.model_fields]


def _forms_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the schemas in a type: of a union, a list or a table of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _forms_in(inner)
