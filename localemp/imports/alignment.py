"""Match the items of a file to the rows of a data set.

Released outputs have no ids, and their texts differ from the data: lower-cased, tokenised, most contractions expanded.
Therefore only letters and digits are compared, after the same normalisation on both sides. Row numbers in a file are
trusted; items with contexts are matched by context and reference; items with references alone are matched by reference
and order, since "thank you" is the reference of many rows.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from localemp.commonsense.events import CONTRACTIONS
from localemp.dialogue import Dialogue
from localemp.imports.items import Item

Rows = list[int | None]


def find_rows(items: Sequence[Item], dialogues: Sequence[Dialogue]) -> Rows:
    """Return for every item the position of its dialogue, or None; no dialogue is used twice.

    Among dialogues with the same text an item gets the one nearest to its expected place, after its predecessor.
    """
    if any(item.id is not None for item in items):
        place = {dialogue.id: row for row, dialogue in enumerate(dialogues)}
        rows = [place.get(item.id) if item.id is not None else None for item in items]
        if any(row is not None for row in rows):
            return rows
    if any(item.context for item in items):
        return _by_text([_item_key(item) for item in items], _index(dialogues))
    if all(item.row is not None for item in items):
        return [item.row if item.row is not None and item.row < len(dialogues) else None for item in items]
    # models_result.json lost an e or f at the beginning of a text, by stripping the characters of "Ref:".
    references = [letters(item.reference or "").lstrip("ef") for item in items]
    return _by_order(references, [letters(dialogue.reference or "").lstrip("ef") for dialogue in dialogues])


def letters(text: str) -> str:
    """Return the letters and digits of a text, with contractions expanded as these systems' preprocessing does."""
    joined = _SPLIT_OFF.sub("", text.lower())
    written_out = _CONTRACTION.sub(lambda found: _CONTRACTIONS[found[0]], joined)
    return "".join(filter(str.isalnum, written_out))


# Tokenised contractions are joined again ("was n't"), then written out where the systems' word list does it, anywhere
# in a word, as theirs does.
_SPLIT_OFF = re.compile(r"(?<!\s)\s++(?=n't\b|'(?:s|m|re|ve|ll|d)\b)")
# The contractions of the released code, and more that the other systems' preprocessing expands.
_CONTRACTIONS = {
    **CONTRACTIONS,
    **{"wouldn't": "would not", "he's": "he is", "she's": "she is", "we're": "we are"},
    **{"you've": "you have", "they've": "they have"},
}
_CONTRACTION = re.compile("|".join(sorted(_CONTRACTIONS, key=len, reverse=True)))


def _context_key(turns: Iterable[str]) -> str:
    return letters(" ".join(turns))


def _item_key(item: Item) -> Hashable:
    return _context_key(item.context), None if item.reference is None else letters(item.reference)


def _index(dialogues: Sequence[Dialogue]) -> Mapping[Hashable, list[int]]:
    """Rows by context and reference, and by context alone for items without a reference."""
    index: dict[Hashable, list[int]] = defaultdict(list)
    for row, dialogue in enumerate(dialogues):
        context = _context_key(dialogue.turns)
        index[context, letters(dialogue.reference or "")].append(row)
        index[context, None].append(row)
    return index


def _by_text(keys: Sequence[Hashable], index: Mapping[Hashable, list[int]]) -> Rows:
    rows: Rows = []
    taken: set[int] = set()
    expected = 0
    for key in keys:
        free = [row for row in index.get(key, ()) if row not in taken]
        row = min(free, key=lambda row: abs(row - expected), default=None)
        if row is not None:
            taken.add(row)
        expected = expected + 1 if row is None else row + 1
        rows.append(row)
    return rows


def _by_order(ours: Sequence[str], theirs: Sequence[str]) -> Rows:
    """An alignment that keeps the order: first texts that are unique on both sides, then those between them."""
    rows: Rows = [None] * len(ours)
    once_ours, once_theirs = _once(ours), _once(theirs)
    pairs = [(place, once_theirs[text]) for text, place in once_ours.items() if text in once_theirs]
    for place, row in _rising(pairs):
        rows[place] = row
    places = _places(theirs)
    ends = _next_rows(rows, len(theirs))
    start = 0
    for place, text in enumerate(ours):
        if rows[place] is None and text in places:
            free = bisect_left(places[text], start)
            if free < len(places[text]) and places[text][free] < ends[place]:
                rows[place] = places[text][free]
        found = rows[place]
        start = start if found is None else found + 1
    return rows


def _next_rows(rows: Rows, end: int) -> list[int]:
    """Return, for every place, the next known row after it, or the end."""
    found = [end] * len(rows)
    for place in range(len(rows) - 2, -1, -1):
        after = rows[place + 1]
        found[place] = found[place + 1] if after is None else after
    return found


def _places(texts: Sequence[str]) -> dict[str, list[int]]:
    """The positions of each text; empty texts have none."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        if text:
            places[text].append(place)
    return places


def _once(texts: Sequence[str]) -> dict[str, int]:
    return {text: found[0] for text, found in _places(texts).items() if len(found) == 1}


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest increasing subsequence of pairs: both first and second elements rise."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (_, row) in enumerate(pairs):
        place = bisect_left(tails, row)
        before.append(ends[place - 1] if place else -1)
        if place == len(tails):
            tails.append(row)
            ends.append(number)
        else:
            tails[place], ends[place] = row, number
    chosen = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = before[number]
    return chosen[::-1]
