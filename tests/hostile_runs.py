"""Texts that slow patterns down: long runs made from the letters that a pattern itself is made of.

A pattern takes more than linear time where what it reads can be read again from the next place on, or in more than one
way. Both show on runs of what its repetitions repeat, after what must stand before them, before what ends no match.
"""

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

SHORT, LONG = 4_000, 16_000
_PALETTE = "ax1 \n\"'.,:;-_<>[](){}=\\/|#@"
_CATEGORIES = {
    sre.CATEGORY_SPACE: " \n",
    sre.CATEGORY_NOT_SPACE: "x.",
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_NOT_DIGIT: "x ",
    sre.CATEGORY_WORD: "x",
    sre.CATEGORY_NOT_WORD: "- ",
}
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_MOST_LETTERS = 7
_END = "\x01"

# Seconds that runs may take before they are compared, how much longer the long one may take (linear is 4, quadratic
# 16), and after how many it is given up.
_SHORT_CHEAP, _LONG_CHEAP, _RATIO, _PATIENCE = 0.0025, 0.02, 8.0, 1.0


class TooSlowError(AssertionError):
    """A run took more than linear time."""


def check(use: Callable[[Any], object], runs: Iterable[Callable[[int], str]], as_bytes: bool = False) -> None:
    """See that no run takes more than linear time.

    Args:
        use: Does with a text what is to be fast.
        runs: Give a text of about the length that they are asked for.
        as_bytes: Whether `use` takes bytes.

    Raises:
        TooSlowError: One does; its beginning is told.
    """

    def seconds(run: Callable[[int], str], length: int) -> float:
        text: Any = run(length).encode("latin-1", "replace") if as_bytes else run(length)
        with _at_most(_PATIENCE):
            started = time.thread_time()
            use(text)
            return time.thread_time() - started

    for run in runs:
        if seconds(run, SHORT) < _SHORT_CHEAP or (long := seconds(run, LONG)) < _LONG_CHEAP:
            continue
        short = max(min(seconds(run, SHORT) for _ in range(3)), _SHORT_CHEAP)
        # Again, where a busy machine may have been the reason.
        if long > _RATIO * short and min(long, seconds(run, LONG)) > _RATIO * short:
            shown = run(60)
            raise TooSlowError(f"{short:.3f} s for some {SHORT} characters, {long:.3f} s for {LONG}: {shown!r}...")


def runs_for(pattern: str, flags: int = 0) -> Iterator[Callable[[int], str]]:
    """Runs made from a pattern's own letters."""
    tree = parser.parse(pattern, flags)
    letters = list(dict.fromkeys(_letters(tree)))[:_MOST_LETTERS] or ["x"]
    units = [*letters, *("".join(pair) for pair in product(letters, repeat=2) if pair[0] != pair[1])]
    begun = list(dict.fromkeys(_begun(tree)))
    if flags & re.MULTILINE:
        begun += [f"{start}\n" for start in begun]
    for unit in dict.fromkeys([*units, *begun, *(start + letter for start in begun for letter in letters)]):
        # Of long units enough for each to be begun from.
        yield lambda length, unit=unit: unit * (length // min(len(unit), 8)) + _END
    for one, other in product(letters, repeat=2):
        yield lambda length, one=one, other=other: one * (length // 2) + other * (length // 2) + _END
    for start, letter in product(begun, letters):
        yield lambda length, start=start, letter=letter: start + letter * length + _END


def plain_runs() -> Iterator[Callable[[int], str]]:
    """Runs for functions: white space, marks, letters, words, quotes, and their mixtures."""
    marks = ("é", "🙂", "\t", "\r\n", "\u2028", " \n", "\n\n", "!?", "`", "::", "' ", ".)", '."')
    words = (
        "a.",
        "a. ",
        "a.!",
        "it's ",
        "a b",
        "word ",
        "listener ",
        "Speaker:\n",
        "(a",
        "1.1",
        "*a",
        "|a",
        "<b>",
        "[1",
        "x-",
    )
    for unit in (*_PALETTE, *marks, *words):
        yield lambda length, unit=unit: unit * (length // len(unit)) + "x"
        yield lambda length, unit=unit: "a " + unit * (length // len(unit))


def _letters(tree: Any) -> Iterator[str]:
    """Letters that the parts of a pattern match; those of repetitions first."""
    for kind, value in tree:
        if kind in _REPEATS and value[1] > 1:
            yield from _letters(value[2])
    for kind, value in tree:
        yield from _of(kind, value)


def _of(kind: Any, value: Any) -> Iterator[str]:
    if kind is sre.LITERAL:
        yield chr(value)
    elif kind is sre.NOT_LITERAL:
        yield from [letter for letter in _PALETTE if ord(letter) != value][:2]
    elif kind is sre.ANY:
        yield "x"
    elif kind is sre.IN:
        yield from _of_class(value)
    elif kind in _REPEATS:
        yield from _letters(value[2])
    elif kind is sre.BRANCH:
        for branch in value[1]:
            yield from _letters(branch)
    elif kind is sre.SUBPATTERN:
        yield from _letters(value[3])
    elif kind is sre.ATOMIC_GROUP:
        yield from _letters(value)
    elif kind in (sre.ASSERT, sre.ASSERT_NOT):
        yield from _letters(value[1])


def _of_class(items: Any) -> list[str]:
    """At most two letters of a class, as different as can be."""
    if items[0][0] is sre.NEGATE:
        out = set(_of_class(items[1:])) | {letter for letter in _PALETTE if _is_in(letter, items[1:])}
        return [letter for letter in _PALETTE if letter not in out][:2]
    found = []
    for kind, value in items:
        if kind is sre.LITERAL:
            found.append(chr(value))
        elif kind is sre.RANGE:
            found.append(chr(value[0]))
        elif kind is sre.CATEGORY:
            found += _CATEGORIES.get(value, "x")
    return [found[0], found[-1]] if len(found) > 1 else found


def _is_in(letter: str, items: Any) -> bool:
    for kind, value in items:
        if kind is sre.LITERAL and ord(letter) == value:
            return True
        if kind is sre.RANGE and value[0] <= ord(letter) <= value[1]:
            return True
        if kind is sre.CATEGORY and letter in _CATEGORIES.get(value, ""):
            return True
    return False


def _begun(tree: Any) -> Iterator[str]:
    """What a match begins with, up to each of the pattern's parts."""
    text = ""
    for kind, value in tree:
        text += _sample(kind, value)
        if text:
            yield text


def _sample(kind: Any, value: Any) -> str:
    """A short text that one part matches, if it is simple."""
    if kind in _REPEATS:
        return "".join(_sample(*part) for part in value[2]) * max(1, min(value[0], 3))
    if kind is sre.BRANCH:
        return "".join(_sample(*part) for part in value[1][0])
    if kind is sre.SUBPATTERN:
        return "".join(_sample(*part) for part in value[3])
    if kind is sre.ATOMIC_GROUP:
        return "".join(_sample(*part) for part in value)
    if kind in (sre.ASSERT, sre.ASSERT_NOT):
        return ""
    return next(_of(kind, value), "")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Give up what takes longer: the engine of regular expressions looks at signals."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {seconds:.0f} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
