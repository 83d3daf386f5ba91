"""One parser for outputs made of blocks of `Name:value` lines; the differences between systems are data (`Blocks`).

A block starts with its first field and ends at the next block. Empty lines, lines of dashes, known fields that are not
needed (inferences, concepts) and everything in front of the first block are skipped. Anything else is an error: the
file has another format, or a block is damaged.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localemp.errors import DataError
from localemp.imports.items import Item
from localemp.utils.text import well_formed

# A text of a list with what ends it; no character is looked at twice.
_ITEM = re.compile(r"""\s*+('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")\s*+([,\]])""")
_HEAD = 200  # lines that are looked at to see what a file is


@dataclass(frozen=True, slots=True)
class Blocks:
    """The fields of a format, each with its colon.

    Attributes:
        emotion: The first line of a block: the label in the data.
        context: The turns, as a Python list or joined by `[SEP]`.
        reference: A person's reply.
        hypotheses: Fields with a reply; a file may have only some of them, the same in every block.
        feeling: The predicted emotion, if any; on its own line, or after a tab on the first line.
        optional: Hypotheses that the system omits if they are empty.
        ignored: Prefixes of other lines that may occur.
    """

    emotion: str
    context: str
    reference: str
    hypotheses: tuple[str, ...]
    feeling: str | None = None
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def read(self, path: Path, lines: Sequence[str]) -> list[Item]:
        """Read the items of a file.

        Raises:
            DataError: There is no block, a line is unknown, or a block lacks a field or has one twice.
        """
        starts = [number for number, line in enumerate(lines) if line.startswith(self.emotion)]
        if not starts:
            raise DataError(
                path, f"no line begins with {self.emotion!r}", "docs/importing.md shows the forms that are read"
            )
        for number, line in enumerate(lines[: starts[0]], 1):
            if line.startswith(self._others):
                message = f"a block that does not begin with {self.emotion!r}"
                raise DataError(path, message, "the file lacks its beginning; fetch or copy it again", number)
        blocks = [
            self._block(path, lines, start, end) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
        ]
        present = {name for name in self.hypotheses if any(name in fields for fields in blocks)}
        if not present:
            known = f"a reply is a line of {', '.join(self.hypotheses)}"
            raise DataError(path, "no block holds a reply", known, starts[0] + 1)
        return [self._item(path, start + 1, fields, present) for start, fields in zip(starts, blocks, strict=True)]

    def fits(self, lines: Sequence[str]) -> int:
        """Return how many fields the first lines of a file have; 0 if a required one is missing."""
        head = [part for line in lines[:_HEAD] for part in line.split("\t")]

        def has(field: str) -> bool:
            return any(part.startswith(field) for part in head)

        needed = (self.emotion, self.context, self.reference)
        hypotheses = [name for name in self.hypotheses if has(name)]
        if not hypotheses or not all(map(has, needed)):
            return 0
        others = [field for field in (self.feeling, *self.ignored) if field and has(field)]
        return len(needed) + len(hypotheses) + len(others)

    @property
    def _others(self) -> tuple[str, ...]:
        """The fields after the first."""
        return (self.context, self.reference, *self.hypotheses, *filter(None, [self.feeling]))

    def _block(self, path: Path, lines: Sequence[str], start: int, end: int) -> dict[str, str]:
        """The values of one block by field."""
        first, *others = lines[start].split("\t")
        fields = {self.emotion: first.removeprefix(self.emotion).strip()}
        rest = [(start, part) for part in others] + [(number, lines[number]) for number in range(start + 1, end)]
        for number, line in rest:
            field = next((name for name in self._others if line.startswith(name)), None)
            if field is None:
                if line.strip(" -") and not line.startswith(self.ignored):
                    known = ", ".join(self._others)
                    raise DataError(path, f"this line is in no field: {line[:40]!r}", f"known: {known}", number + 1)
                continue
            if field in fields:
                twice = f"a second {field!r} in the block that begins in line {start + 1}"
                raise DataError(
                    path, twice, f"a line {self.emotion!r} is missing; fetch or copy the file again", number + 1
                )
            fields[field] = line.removeprefix(field).strip()
        return fields

    def _item(self, path: Path, line: int, fields: dict[str, str], present: set[str]) -> Item:
        needed = [self.context, *(name for name in self.hypotheses if name in present), self.reference]
        missing = [name for name in needed if name not in fields and name not in self.optional]
        if missing:
            message = f"the block that begins here has no {' and no '.join(map(repr, missing))}"
            raise DataError(path, message, "the file is cut or damaged; fetch or copy it again", line)
        return Item(
            line=line,
            replies={name.rstrip(":"): fields.get(name, "") for name in self.hypotheses if name in present},
            context=_turns(fields[self.context]),
            reference=fields[self.reference],
            emotion=fields[self.emotion] or None,
            feeling=fields.get(self.feeling) if self.feeling else None,
        )


def _turns(text: str) -> tuple[str, ...]:
    """The turns of a context; a text that looks like a list but is not a list of strings is one turn."""
    if text.startswith("["):
        return _listed(text) or tuple(filter(None, [text.strip("[]'\"")]))
    return tuple(turn.strip() for turn in text.split("[SEP]") if turn.strip())


def _listed(text: str) -> tuple[str, ...]:
    """The strings of a printed Python list; empty for anything else.

    Only single strings are given to Python's parser: deep nesting would crash the interpreter.
    """
    turns, start = [], 1
    while item := _ITEM.match(text, start):
        try:
            turns.append(_text(item[1]))
        except (ValueError, SyntaxError):  # a broken escape
            return ()
        start = item.end()
        if item[2] == "]":
            break
    return tuple(turns) if text[start - 1 :] == "]" else ()


def _text(literal: str) -> str:
    """The text inside quotation marks."""
    if "\\" not in literal:
        return literal[1:-1]
    with warnings.catch_warnings(action="ignore"):  # of escapes that are none
        return well_formed(str(ast.literal_eval(literal)))
