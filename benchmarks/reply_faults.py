"""What can be wrong with a reply, whatever it says: it loops, copies its prompt, or goes on with somebody's turn."""

import re
from collections.abc import Iterable, Sequence

RUN = 8
"""So many words in a row, as they stand in another text, are copied: people who quote a dialogue quote fewer."""

_SENTENCE = 3  # words; shorter ones ("Oh no.", "I see.") may be said twice
_AT_ONCE = 3  # words that are said again at once
_IN_A_ROW = 4  # times that one or two words come in a row: "no, no, no" is English
_ANYWHERE, _TIMES = 4, 3  # so many words, so often in one reply

_WORD = re.compile(r"[^\W_]+(?:[_'’][^\W_]+)*")
_END = re.compile(r"[.!?…]+(?=\s|$)|\n+")
_ROLE = re.compile(r"(?<![^\W_])(?:speaker|user|human|listener|assistant|system)(?:\s*\d)?\s*:", re.IGNORECASE)
_OWN_ROLE = re.compile(r"\s*(?:listener|assistant)\s*:", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case and without punctuation."""
    return _WORD.findall(text.lower())


def loops(text: str) -> bool:
    """Return whether a reply repeats itself. Numbers are not words here, since lists are numbered.

    One of these is enough:
    - a sentence of at least three words that was there before;
    - at least three words that are said again at once ("to be a good friend, to be a good friend");
    - one or two words four times in a row;
    - the same four words three times anywhere.
    """
    sentences = [_without_numbers(part) for part in _END.split(text)]
    long = [sentence for sentence in sentences if len(sentence) >= _SENTENCE]
    if len(set(long)) < len(long):
        return True
    said = _without_numbers(text)
    if _repeats_at_once(said):
        return True
    grams = [said[at : at + _ANYWHERE] for at in range(len(said) - _ANYWHERE + 1)]
    return any(grams.count(gram) >= _TIMES for gram in set(grams))


def _without_numbers(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if not word.isdigit())


def _repeats_at_once(said: Sequence[str]) -> bool:
    for length in range(1, len(said) // 2 + 1):
        needed = 2 if length >= _AT_ONCE else _IN_A_ROW
        for at in range(len(said) - needed * length + 1):
            piece = said[at : at + length]
            if all(said[at + n * length : at + (n + 1) * length] == piece for n in range(1, needed)):
                return True
    return False


def runs_of(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Return all runs of `RUN` words within each of the texts."""
    return {tuple(said[at : at + RUN]) for said in map(words, texts) for at in range(len(said) - RUN + 1)}


def other_turn(text: str) -> bool:
    """Return whether a reply goes on with a turn: "Speaker:", "User:" anywhere, "Listener:" but at its beginning."""
    own = _OWN_ROLE.match(text)
    return _ROLE.search(text, own.end() if own else 0) is not None
