"""A small adversary for files: mutants of a good one, the same ones in every run, and the check that reading survives.

    Kind(make, read).check(tmp_path)

A mutant is a file as disks, editors, other programs and people leave it: bytes turned, cut or doubled, lines in another
order, and, where it is JSON, values of another type, numbers out of range, deep nesting, half characters.
"""

import gzip
import json
import random
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.errors import LocalempError

# Raw JSON, since some of it is none that Python would write.
HOSTILE_VALUES = (
    *("null", "true", "0", "-1", "1.5", "1e999", "NaN", "-Infinity", "9" * 5_000, "9" * 400, "123456789012345678901"),
    *('""', '"x"', '" "', '"\\ud83d"', '"\\u0000"', '"\\u001b[31m"', '"../../etc/passwd"', '"2024-13-45"', '"1e5"'),
    *("[]", "[null]", "[[]]", '["a", 1]', "{}", '{"a": null}', "[" * 90 + "]" * 90, "[" * 3_000 + "]" * 3_000, ""),
)
HOSTILE_BYTES = (
    *(
        b"\x00",
        b"\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\xbd",
        b"\r",
        b"\r\n",
        b"\n",
        b"\n\n",
        b"\x1f\x8b",
        b"\x1b",
    ),
    *(
        b'"',
        b'""',
        b"'",
        b"\\",
        b",",
        b";",
        b"\t",
        b":",
        b"=",
        b"#",
        b"[" * 3_000,
        b"{" * 3_000,
        b"9" * 5_000,
        b" " * 5_000,
    ),
)
_HERE = "\x1a the hostile value \x1a"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: Writes a good file, and what belongs to it, into an empty folder; returns the file that is mutated.
        read: What a command does with such a file, given its path. It may change the file.
        count: Mutants that are tried.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    count: int = 200

    def check(self, folder: Path, share: float = 1, seed: int = 1) -> None:
        """The good file is read; every mutant is read or refused by a LocalempError, and nothing else is raised."""
        path = self.make(folder)
        good, count = path.read_bytes(), int(self.count * share)
        self.read(path)
        faults = []
        for number, mutant in enumerate(mutants(good, count, seed)):
            path.unlink(missing_ok=True)
            path.write_bytes(mutant)
            try:
                self._read(path)
            except Exception:
                faults.append(f"mutant {number}: {mutant[:300]!r}\n{traceback.format_exc(limit=-4)}")
        assert not faults, f"{len(faults)} of {count} mutants end in a traceback\n" + "\n".join(faults[:5])

    def _read(self, path: Path) -> None:
        try:
            self.read(path)
        except LocalempError as error:
            str(error).encode()  # a message that holds half a character can be printed nowhere


def mutants(content: bytes, count: int = 200, seed: int = 1) -> Iterator[bytes]:
    """So many mutants of a file; gzipped ones are changed inside, too."""
    draw = random.Random(seed)
    packed = content.startswith(b"\x1f\x8b")
    inside = gzip.decompress(content) if packed else content
    for _ in range(count):
        if packed and draw.random() < 0.3:
            yield _of_bytes(content, draw)
            continue
        mutant = inside
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            way = draw.choice((_of_bytes, _of_lines, _of_fields, _of_json, _of_json, _of_json))
            mutant = way(mutant, draw)
        yield gzip.compress(mutant, 1) if packed else mutant


def _of_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut off, taken out, doubled, or put in."""
    at = draw.randrange(len(content) + 1)
    end = min(len(content), at + draw.choice((1, 3, 20, 200)))
    match draw.randrange(5):
        case 0:
            changed = bytearray(content)
            for _ in range(draw.randint(1, 8) if content else 0):
                changed[draw.randrange(len(content))] = draw.randrange(256)
            return bytes(changed)
        case 1:
            return content[:at]
        case 2:
            return content[:at] + content[end:]
        case 3:
            return content[:end] + content[at:end] * draw.choice((1, 1, 50)) + content[end:]
        case _:
            return content[:at] + draw.choice(HOSTILE_BYTES) + content[at:]


def _of_lines(content: bytes, draw: random.Random) -> bytes:
    """Lines swapped, doubled, taken out, joined, or ended in another way."""
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            del lines[one]
        case 3:
            lines[one : one + 2] = [b" ".join(lines[one : one + 2])]
        case 4:
            return b"\r\n".join(lines)
        case _:
            lines.insert(other, b"")
    return b"\n".join(lines)


def _of_fields(content: bytes, draw: random.Random) -> bytes:
    """One word or number replaced, as a form that is no JSON has them."""
    words = list(re.finditer(rb"[^\s,;:=\"'\[\]{}|]+", content))
    if not words:
        return content
    word = draw.choice(words)
    replaced = draw.choice((*HOSTILE_BYTES, *(value.encode() for value in HOSTILE_VALUES)))
    return content[: word.start()] + replaced + content[word.end() :]


def _of_json(content: bytes, draw: random.Random) -> bytes:
    """One value of the file's JSON, or of one of its lines, replaced, taken out, or under another key."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    for text, before, after in ((lines[at], lines[:at], lines[at + 1 :]), (content, [], [])):
        try:
            value = json.loads(text)
            if isinstance(value, dict | list):
                return b"\n".join([*before, _changed(value, draw), *after])
        except (ValueError, RecursionError):  # an earlier change left no JSON, or none that can be written again
            continue
    return _of_fields(content, draw)


def _changed(value: Any, draw: random.Random) -> bytes:
    places = list(_places(value))
    if not places:
        return draw.choice(HOSTILE_VALUES).encode()
    holder, key = draw.choice(places)
    match draw.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draw.choice(("", "x", f"{key} "))] = holder.pop(key)
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = str(holder[key])
        case _:
            holder[key] = _HERE
    return json.dumps(value).replace(json.dumps(_HERE), draw.choice(HOSTILE_VALUES)).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object inside, with each of its indexes or keys."""
    level = [value]
    while level:
        holder = level.pop()
        for key, inner in holder.items() if isinstance(holder, dict) else enumerate(holder):
            yield holder, key
            if isinstance(inner, dict | list):
                level.append(inner)
