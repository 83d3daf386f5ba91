"""Texts with placeholders: `{feeling}`, `{appraisal.cause}`; doubled braces stand for themselves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from localemp.utils.text import one_line

_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*+\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][\w-]*+(?:\.[\w-]++)?")
_DOUBLED = "write {{ and }} for the braces themselves"


class TextError(ValueError):
    """A text with placeholders cannot be parsed.

    Attributes:
        hint: What to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Text:
    """A parsed text.

    Attributes:
        parts: Pairs of a literal text and the name of the placeholder after it, which is empty after the last.
        literal: The whole text if it has no placeholder; else None.
    """

    parts: tuple[tuple[str, str], ...]
    literal: str | None = field(init=False)

    def __post_init__(self) -> None:
        literal = None if any(name for _, name in self.parts) else "".join(text for text, _ in self.parts)
        object.__setattr__(self, "literal", literal)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text.

        Raises:
            TextError: A brace has no partner, or what is between two braces is not a name.
        """
        parts: list[tuple[str, str]] = []
        literal: list[str] = []
        end = 0
        for found in _BRACES.finditer(text):
            literal.append(text[end : found.start()])
            end, braces = found.end(), found[0]
            if braces in ("{{", "}}"):
                literal.append(braces[0])
            elif len(braces) == 1:
                if braces == "{":
                    raise TextError(f"no placeholder begins at {one_line(text[found.start() :], 30)}", _DOUBLED)
                raise TextError(f"no placeholder ends at {one_line(text[max(0, end - 30) : end], 30)}", _DOUBLED)
            else:
                parts.append(("".join(literal), _name(braces)))
                literal = []
        return cls((*parts, ("".join([*literal, text[end:]]), "")))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its placeholders, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with a value for every placeholder."""
        if self.literal is not None:
            return self.literal
        return "".join([literal + values[name] if name else literal for literal, name in self.parts])

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


def _name(braces: str) -> str:
    """Return the name between two braces."""
    inner = braces[1:-1]
    if _NAME.fullmatch(inner):
        return inner
    shown = one_line(braces, 40)
    if not inner.strip():
        raise TextError(f"{shown} has no name", "write {{}} for the braces themselves")
    if near := _NAME.match(inner.strip()):
        rest = inner.strip()[near.end() :]
        if not rest:
            raise TextError(f"{shown} has spaces around its name", f"write {{{near[0]}}}")
        if rest[0] in "!:[.":
            raise TextError(f"{shown} is more than a name", f"write {{{near[0]}}}; {_DOUBLED}")
    raise TextError(f"{shown} is not a placeholder", f"{_DOUBLED}; a placeholder is a name, as in {{feeling}}")


def plain(text: str) -> Text:
    """Return a text without placeholders, whatever braces it has."""
    return Text(((text, ""),))
