"""Raters: their names, and the secret links they sign in with."""

import hashlib
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Literal

from localemp.errors import OptionError

OWNER = "owner"
"""The name under which the study's owner has a link; no rater can have it."""

LONGEST_NAME = 60

RaterRole = Literal["person", "owner"]


@dataclass(frozen=True, slots=True)
class Rater:
    """The owner of a link.

    Attributes:
        name: As in votes.
        kind: "person" rates; "owner" sees how the study goes.
    """

    name: str
    kind: RaterRole


def clean_name(text: str) -> str:
    """Normalise a rater's name: single spaces, composed Unicode (NFC).

    Raises:
        OptionError: It is empty, too long, or not a name that a table or a spreadsheet can hold.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not name:
        raise OptionError("a rater needs a name", "any name that the others do not have")
    if len(name) > LONGEST_NAME:
        raise OptionError(f"a name of {len(name)} characters is too long", f"up to {LONGEST_NAME}")
    # A first character like "=" would make it a formula in a spreadsheet; lists of names have commas.
    if not name[0].isalnum() or "," in name or not name.isprintable():
        raise OptionError(f"{name!r} is not a valid name", "begin with a letter or digit, and use no comma")
    if name.casefold() == OWNER:
        raise OptionError(f"{name!r} is the owner's name", "choose another")
    return name


def new_token() -> str:
    """Return a new link token: 192 random bits, URL-safe."""
    return secrets.token_urlsafe(24)


def token_hash(token: str) -> str:
    """Return the stored hash of a token. Lookups use the hash, so their timing reveals nothing about a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
