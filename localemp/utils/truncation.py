"""Cuts the beginning of a text so that its end fits an encoder, however long the text is.

The end is kept because it has a dialogue's newest turn.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

# Longest token of BERT's and BART's vocabularies, in characters: text further away than this for every token that fits
# is never seen by the encoder, so it is not looked at here.
_LONGEST_TOKEN = 128

# Possessive, and matched only at the start of a run: each run is read once.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s++(?=\S)")


def sentence_starts(text: str) -> list[int]:
    """Return where every sentence but the first begins."""
    return [end.end() for end in _SENTENCE_END.finditer(text)]


def beginning_in_sight(text: str, room: int) -> str:
    """Return the beginning of a text that an encoder of `room` tokens can see."""
    return text[: room * _LONGEST_TOKEN]


def end_in_sight(text: str, room: int) -> str:
    """Return the end of a text that an encoder of `room` tokens can see."""
    return text[-room * _LONGEST_TOKEN :]


def cut_beginning(
    text: str,
    room: int,
    tokenize: Callable[..., Any],
    excess: Callable[[str], int],
    starts: Callable[[str], Sequence[int]] = sentence_starts,
) -> int:
    """Return how many characters to cut from the beginning of a text that is too long.

    Whole pieces are cut, so that the rest stays readable; if the last piece alone is too long, it is cut at a token.
    Time and memory do not depend on the length of the text.

    Args:
        text: A text that is too long, or nearly so.
        room: Most tokens that fit.
        tokenize: The encoder's tokenizer, a fast one of transformers.
        excess: Returns by how many tokens a text is too long; 0 or less if it fits.
        starts: Returns where the pieces of a text begin, without the first.

    Returns:
        Number of characters; the whole length if not even an empty text fits.
    """
    end = end_in_sight(text, room)
    # Twice the room: a cut text may be tokenized differently at its new beginning, but never into that many tokens.
    spans = _spans(tokenize, end)
    if len(spans) > 2 * room:
        end = end[spans[-2 * room][0] :]
    if excess(end) <= 0:
        return len(text) - len(end)
    pieces = starts(end)
    first = bisect_left(pieces, True, key=lambda start: excess(end[start:]) <= 0)
    if first < len(pieces):
        return len(text) - len(end) + pieces[first]
    end = end[pieces[-1] :] if pieces else end
    while end and (surplus := excess(end)) > 0:
        spans = _spans(tokenize, end)
        # One character can be several tokens, so cut at least one.
        end = end[max(1, spans[surplus][0]) :] if surplus < len(spans) else ""
    return len(text) - len(end)


def _spans(tokenize: Callable[..., Any], text: str) -> list[tuple[int, int]]:
    """Return the character span of each token."""
    found = tokenize(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, padding=False, verbose=False
    )
    spans: list[tuple[int, int]] = found["offset_mapping"]
    return spans
