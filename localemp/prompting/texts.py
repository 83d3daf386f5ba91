"""Texts with placeholders: `{feeling}`, `{appraisal.cause}`; doubled braces stand for themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Self


@dataclass(frozen=True, slots=True)
class Text:
    """A parsed text.

    Attributes:
        parts: Pairs of a literal text and the name of the placeholder after it, which is empty after the last.
    """

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text.

        Raises:
            ValueError: A brace has no partner, or a placeholder is not a plain name.
        """
        parts = []
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError("a brace has no partner; write {{ or }} for a brace itself") from error
        for literal, name, form, conversion in pieces:
            if form or conversion:
                raise ValueError(f"{{{name}}} must be a plain name, without ! and :")
            if name is not None and not name.strip():
                raise ValueError("{} has no name; write {{}} for the braces themselves")
            parts.append((literal, name or ""))
        return cls(tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its placeholders, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name))

    def fill(self, value_of: Callable[[str], str]) -> str:
        """Return the text with a value for every placeholder."""
        return "".join([literal + value_of(name) if name else literal for literal, name in self.parts])

    def replace(self, texts: Mapping[str, "Text"]) -> "Text":
        """Return the text with other texts in place of some placeholders."""
        parts: list[tuple[str, str]] = []
        before = ""
        for literal, name in self.parts:
            pieces = texts[name].parts if name in texts else (("", name),)
            for inner, inner_name in pieces:
                before += literal + inner
                literal = ""
                if inner_name:
                    parts.append((before, inner_name))
                    before = ""
            before += literal
        return Text((*parts, (before, "")) if before else tuple(parts))


def plain(text: str) -> Text:
    """Return a text without placeholders, whatever braces it has."""
    return Text(((text, ""),))
