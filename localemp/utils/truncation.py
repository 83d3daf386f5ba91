"""Cuts the beginning off a text so that its end fits what an encoder takes, however long the text is.

The end stays because a dialogue's newest turn stands there.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

# No token of BERT's or BART's vocabulary is longer: what lies further away than so many characters for every token that
# fits is not seen by the encoder, so nothing here looks at it.
_LONGEST_TOKEN = 128

# Possessive, and begun only where a run begins: a run is read once, whatever follows it.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s++(?=\S)")


def sentence_starts(text: str) -> list[int]:
    """Where every sentence but the first begins."""
    return [end.end() for end in _SENTENCE_END.finditer(text)]


def beginning_in_sight(text: str, room: int) -> str:
    """What of a text's beginning can matter to an encoder that takes `room` tokens."""
    return text[: room * _LONGEST_TOKEN]


def end_in_sight(text: str, room: int) -> str:
    """What of a text's end can matter to an encoder that takes `room` tokens."""
    return text[-room * _LONGEST_TOKEN :]


def cut_beginning(
    text: str,
    room: int,
    tokenize: Callable[..., Any],
    excess: Callable[[str], int],
    starts: Callable[[str], Sequence[int]] = sentence_starts,
) -> int:
    """How many characters have to go from the beginning of a text that is too long.

    Whole pieces go, so that what is left can be understood; only where the last piece alone is too long, it is cut at a
    token. Time and memory do not depend on the length of the text.

    Args:
        text: Too long, or near to it.
        room: Tokens that fit, at most.
        tokenize: The encoder's tokenizer, one of transformers' fast ones.
        excess: By how many tokens a text is too long; 0 or less means that it fits.
        starts: Where the pieces of a text begin, but for the first.

    Returns:
        Characters; all of them where not even an empty text fits.
    """
    end = end_in_sight(text, room)
    # Twice the room: a cut text may be split into other tokens at its new beginning, though never into so many.
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
        # One character can be several tokens, so at least one goes.
        end = end[max(1, spans[surplus][0]) :] if surplus < len(spans) else ""
    return len(text) - len(end)


def _spans(tokenize: Callable[..., Any], text: str) -> list[tuple[int, int]]:
    """From which character to which each token reaches."""
    found = tokenize(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, padding=False, verbose=False
    )
    spans: list[tuple[int, int]] = found["offset_mapping"]
    return spans
