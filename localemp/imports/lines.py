"""Formats with one reply a line: plain lines, the paper's `id #*#*# text`, and the log of EC's test."""

import re
from collections.abc import Sequence
from pathlib import Path

from localemp.errors import DataError
from localemp.imports.items import Item

REPLY = "reply"
_MARK = "#*#*#"
_NUMBERED = re.compile(rf"\s*(\d{{1,9}})\s*{re.escape(_MARK)}")
_LOGGED = re.compile(r"(?:\[[^\]]*\] )?([STH])-(\d{1,9})\t(.*)")
_TOKENS = re.compile(r"<(?:CLS|BOS|EOS)>")


def read_plain(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read one reply a line, the first for row 0; an empty line is an empty reply."""
    return [Item(number, {REPLY: line.strip()}, row=number - 1) for number, line in enumerate(lines, 1)]


def read_paper(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read `12 #*#*# text`, as the paper's released scripts write it; the id is the row, from 0.

    The scripts write replies unchanged: lines without a mark continue the reply above.

    Raises:
        DataError: The first line has no id and mark, or an id occurs twice.
    """
    texts: dict[int, list[str]] = {}
    began: dict[int, int] = {}
    row = -1
    for number, line in enumerate(lines, 1):
        found = _NUMBERED.match(line)
        if found is None and not texts:
            raise DataError(
                path, f"no id and {_MARK!r}: {line[:40]!r}", f"each reply is a line `12 {_MARK} text`", number
            )
        if found is None:
            texts[row].append(line)
            continue
        row = int(found[1])
        if row in texts:
            again = f"id {row} is taken by line {began[row]}"
            raise DataError(path, again, "a script that was started again writes on; keep one of the two", number)
        texts[row], began[row] = [line[found.end() :]], number
    return [Item(began[row], {REPLY: "\n".join(text).strip()}, row=row) for row, text in texts.items()]


def is_paper(lines: Sequence[str]) -> bool:
    """Return whether the first line is `12 #*#*# text`."""
    return _NUMBERED.match(next(filter(str.strip, lines), "")) is not None


def read_log(path: Path, lines: Sequence[str]) -> list[Item]:
    """Read `S-0`, `T-0`, `H-0` lines (source, target, hypothesis), each with a tab and a text, from a log.

    Raises:
        DataError: There is no such line, one occurs twice, or one of the three is missing.
    """
    parts: dict[int, dict[str, str]] = {}
    began: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        found = _LOGGED.match(line)
        if found is None:
            continue
        kind, sample, text = found[1], int(found[2]), found[3]
        fields = parts.setdefault(sample, {})
        began.setdefault(sample, number)
        if kind in fields:
            again = f"{kind}-{sample} was there before, in the item that begins in line {began[sample]}"
            raise DataError(path, again, "the log holds several tests; keep one of them", number)
        fields[kind] = text
    if not parts:
        raise DataError(path, "no line is `S-0`, `T-0` or `H-0`, a tab and a text", "give the log of EC's --do_test")
    for sample, fields in parts.items():
        missing = [f"{kind}-{sample}" for kind in "STH" if kind not in fields]
        if missing:
            hint = "the log is cut; take a complete one"
            raise DataError(path, f"the item that begins here has no {', '.join(missing)}", hint, began[sample])
    return [
        Item(
            began[sample],
            {REPLY: _without_tokens(fields["H"])},
            context=tuple(turn for part in fields["S"].split("<SEP>") if (turn := _without_tokens(part))),
            reference=_without_tokens(fields["T"]),
        )
        for sample, fields in parts.items()
    ]


def is_log(lines: Sequence[str]) -> bool:
    """Return whether the lines hold a hypothesis of EC's log."""
    return any((found := _LOGGED.match(line)) and found[1] == "H" for line in lines)


def _without_tokens(text: str) -> str:
    return _TOKENS.sub("", text).strip()
