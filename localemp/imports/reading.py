"""Read replies of other systems into `Replies`, matched to the published rows if a data set is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localemp.data.sources import find_source, load_dialogues
from localemp.data.textfile import read_lines
from localemp.dialogue import Dialogue
from localemp.errors import DataError, UnknownNameError
from localemp.imports.alignment import Rows, find_rows
from localemp.imports.formats import FORMATS, Format, format_of, looks_like
from localemp.imports.items import Item
from localemp.metrics.replies import Replies, Reply
from localemp.models.checksums import sha256_file

_NAMED = 6  # items without a row that a note names; `Imported.unmapped` has all
_BEGINNING = 50  # characters of their context


@dataclass(frozen=True, slots=True)
class Unmapped:
    """An item of the file that matches no row of the data.

    Attributes:
        row: Its position in the file, from 0.
        line: Its first line, from 1.
        beginning: The start of its context, or of whatever else is known.
    """

    row: int
    line: int
    beginning: str

    def __str__(self) -> str:
        return f"row {self.row} ({self.beginning!r})"


@dataclass(frozen=True, slots=True)
class Imported:
    """The contents of an imported file.

    Attributes:
        replies: The replies of the chosen hypothesis, in the order of the data.
        unmapped: Items that match no row of the data; empty without a data set.
        hypotheses: All hypotheses in the file.
    """

    replies: Replies
    unmapped: tuple[Unmapped, ...]
    hypotheses: tuple[str, ...]


def read_import(format: str, path: Path, data: str | None = None, hypothesis: str | None = None) -> Imported:
    """Read replies of another program.

    With `data` the items get the ids, references, emotions and turns of the published rows that they answer, so that
    systems share items. Without it they keep what the file has, under their row numbers, from 0.

    Args:
        format: One of `FORMATS`.
        path: The file, plain or gzipped.
        data: A data set as `load_dialogues` takes it; its published test rows are used.
        hypothesis: The hypothesis to read if a file has several; by default the format's.

    Raises:
        DataError: The file or the data cannot be read, is in another format, is damaged, or answers other dialogues.
        UnknownNameError: There is no such format, or no such hypothesis in the file.
    """
    chosen = format_of(format)
    lines = _lines(path)
    seen = looks_like(lines)
    if seen is not None and FORMATS[seen].read != chosen.read:
        raise DataError(path, f"this looks like {seen}, not {format}", f"try --import {seen}")
    items = chosen.read(path, lines)
    if not items:
        raise DataError(path, "no replies in it", "give a file with at least one reply")
    hypotheses = tuple(items[0].replies)
    name = _choose(hypothesis, hypotheses, chosen)
    source = {"file": str(path), "sha256": sha256_file(path), "format": format, "hypothesis": name, "data": data}
    unmapped: tuple[Unmapped, ...] = ()
    if data is None:
        replies = [_as_it_is(item, row, name) for row, item in enumerate(items)]
        told = ["no data set was given: ids, references and emotions are the file's own"]
    else:
        dialogues = load_dialogues(data, "test", "published")
        rows = _rows(path, items, dialogues, data)
        answers = {row: item for row, item in zip(rows, items, strict=True) if row is not None}
        replies = [_of_row(answers[row], dialogues[row], name) for row in sorted(answers)]
        unmapped = tuple(_unmapped(row, item, name) for row, item in enumerate(items) if rows[row] is None)
        told = _mapping_notes(items, unmapped, len(dialogues))
    empty = sum(not reply.text for reply in replies)
    notes = [
        *(
            [f"the replies are those of {name}; the file has {', '.join(hypotheses)} (--hypothesis)"]
            if len(hypotheses) > 1
            else []
        ),
        *told,
        *([f"{empty:,} of {len(replies):,} replies are empty"] if empty else []),
        *([chosen.caution] if chosen.caution else []),
    ]
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    title = f"{stem}:{name}" if len(hypotheses) > 1 else stem
    return Imported(Replies(title, tuple(replies), source, tuple(notes)), unmapped, hypotheses)


def _lines(path: Path) -> list[str]:
    """The lines of the file; if they are not UTF-8, the error says what the file looks like."""
    try:
        return read_lines(path)
    except DataError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        seen = looks_like(read_lines(path, errors="replace"))
        guess = f"; this looks like {seen}" if seen else ""
        raise DataError(path, f"not valid UTF-8{guess}", error.hint, error.line) from error


def _choose(wanted: str | None, hypotheses: Sequence[str], chosen: Format) -> str:
    if wanted is None:
        return next((name for name in chosen.default if name in hypotheses), hypotheses[0])
    if wanted not in hypotheses:
        raise UnknownNameError("hypothesis", wanted, hypotheses)
    return wanted


def _rows(path: Path, items: Sequence[Item], dialogues: Sequence[Dialogue], data: str) -> Rows:
    """The rows that the items answer.

    Raises:
        DataError: There are more replies without context than rows; or fewer than half of the items match rows of the
            test split, and more match another split; or no item matches.
    """
    rows = find_rows(items, dialogues)
    mapped = sum(row is not None for row in rows)
    if mapped == len(items):
        return rows
    others = [split for split in reversed(find_source(data).splits) if split != "test"]
    if _are_placed(items) and not {item.id for item in items} & {dialogue.id for dialogue in dialogues}:
        last = max(item.row or 0 for item in items)
        same = [split for split in others if len(load_dialogues(data, split, "published")) == last + 1]
        guess = f"; these look like the {same[0]} rows" if same else ""
        message = f"replies for rows 0 to {last:,}, and the data has {len(dialogues):,} rows{guess}"
        raise DataError(
            path, message, "give one reply a row of the test split; one with line breaks goes into JSON lines"
        )
    if 2 * mapped < len(items):
        for split in others:
            elsewhere = sum(row is not None for row in find_rows(items, load_dialogues(data, split, "published")))
            if 2 * elsewhere > len(items):
                found = f"{elsewhere:,} of {len(items):,} match there, {mapped:,} in test"
                message = f"these look like the {split} rows: {found}"
                raise DataError(path, message, "give the system's output on the test split")
    if not mapped:
        raise DataError(path, f"none of {len(items):,} items is a row of {data}", "is it the right data set?")
    return rows


def _are_placed(items: Sequence[Item]) -> bool:
    """Whether only row numbers identify the dialogues."""
    return all(item.row is not None and not item.context for item in items)


def _as_it_is(item: Item, row: int, name: str) -> Reply:
    number = row if item.row is None else item.row
    identity = str(number) if item.id is None else item.id
    text = item.replies[name]
    return Reply(identity, text, item.reference, item.emotion, item.feeling, item.context)


def _of_row(item: Item, dialogue: Dialogue, name: str) -> Reply:
    text = item.replies[name]
    return Reply(dialogue.id, text, dialogue.reference, dialogue.emotion, item.feeling, dialogue.turns)


def _unmapped(row: int, item: Item, name: str) -> Unmapped:
    known = " ".join(item.context) or item.id or item.reference or item.replies[name]
    return Unmapped(row, item.line, known[:_BEGINNING])


def _mapping_notes(items: Sequence[Item], unmapped: Sequence[Unmapped], rows: int) -> list[str]:
    notes = []
    if unmapped:
        listed = ", ".join(map(str, unmapped[:_NAMED])) + (", ..." if len(unmapped) > _NAMED else "")
        count = f"{len(unmapped):,} of {len(items):,} items"
        notes.append(f"{count} answer no row of the data, or one that is answered already; left out: {listed}")
    without = rows - len(items) + len(unmapped)
    if without:
        by_place = _are_placed(items) and all(item.row == place and not item.id for place, item in enumerate(items))
        assumed = "; the replies are taken for those to the first rows" if by_place else ""
        notes.append(f"{without:,} of {rows:,} rows have no reply{assumed}")
    return notes
