"""Names of plans, models and rows, and the placeholders in them."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator

from localemp.errors import PlanError
from localemp.experiments.settings import check_key, check_text

_LONGEST = 100


def valid_name(text: str) -> str:
    """Return a name, normalised and without white space around it.

    Raises:
        ValueError: It is empty or too long, or has a control character, a slash, or neither letter nor digit.
    """
    text = unicodedata.normalize("NFC", text.strip())
    check_text(text, _LONGEST)
    if "/" in text or "\\" in text:
        raise ValueError("a name cannot have a slash")
    if not any(map(str.isalnum, text)):
        raise ValueError("a name needs a letter or a digit")
    return text


Name = Annotated[str, AfterValidator(valid_name)]


def placeholders(name: str, known: Iterable[str], where: str) -> set[str]:
    """Return the settings that a row's name has placeholders of, such as "{shots}".

    Raises:
        PlanError: One is no setting, or the braces are unbalanced.
    """
    found = set()
    try:
        for _, key, form, conversion in Formatter().parse(name):
            if form or conversion:  # format specifications could produce a text of any length
                raise PlanError(f"{where}, name: {{{key}}} must be a plain name, without ! and :")
            if key is not None:
                check_key(key, known, f"{where}, name")
                found.add(key)
    except ValueError as error:
        raise PlanError(f"{where}, name: {error}", "write {{ and }} for braces that are no placeholder") from error
    return found


def value_in_name(value: Any) -> str:
    """Return a setting's value as it stands in a name; of a path, the file's name."""
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | Path):
        return Path(value).name.removesuffix(".toml")
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
