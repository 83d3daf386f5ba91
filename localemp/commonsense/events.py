"""Events for COMET: which text of a dialogue it is asked about, in the form of the paper or of the released code."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.models.atomic import EventKind
from localemp.utils.text import is_well_formed


def check_events(events: Sequence[str]) -> None:
    """Check that every event is a non-empty, well-formed text.

    Raises:
        OptionError: An event is empty or has an unpaired surrogate; says which.
    """
    for number, event in enumerate(events, 1):
        if not event.strip():
            raise OptionError(f"event {number} is empty", "give a text that says what happened")
        if not is_well_formed(event):
            raise OptionError(f"event {number} is not valid Unicode text", "encode it as UTF-8")


def event_of(kind: EventKind) -> Callable[[Dialogue], str]:
    """Return the function that turns a dialogue into an event."""
    return paper_event if kind == "context" else lambda dialogue: released_event(dialogue.last_utterance)


def paper_event(dialogue: Dialogue) -> str:
    """Return the event of the paper (Eq. 6): the whole context, its turns joined by a space."""
    return " ".join(turn.strip() for turn in dialogue.turns)


def released_event(utterance: str) -> str:
    """Return the event of the released code: lower-cased, contractions expanded, tokenized, joined by spaces.

    The released code uses the dialogue's last utterance, and applies the same steps to COMET's inferences.

    Args:
        utterance: One turn, or one inference.
    """
    text = utterance.lower()
    # In order, and inside words too ("my rabbit's" becomes "my rabbit is"), as in the released code.
    for short, full in CONTRACTIONS.items():
        text = text.replace(short, full)
    return " ".join(_words(text))


CONTRACTIONS: Mapping[str, str] = {
    "it's": "it is",
    "don't": "do not",
    "doesn't": "does not",
    "didn't": "did not",
    "you'd": "you would",
    "you're": "you are",
    "you'll": "you will",
    "i'm": "i am",
    "they're": "they are",
    "that's": "that is",
    "what's": "what is",
    "couldn't": "could not",
    "i've": "i have",
    "we've": "we have",
    "can't": "cannot",
    "i'd": "i would",
    "aren't": "are not",
    "isn't": "is not",
    "wasn't": "was not",
    "weren't": "were not",
    "won't": "will not",
    "there's": "there is",
    "there're": "there are",
}
"""The contractions that the released code expands, in its order."""

# Words that keep their full stop inside a text, as single letters and numbers do.
_ABBREVIATIONS = frozenset((
    "a.d", "a.m", "aug", "ave", "bros", "co", "col", "corp", "d.c", "dec", "dr", "e.g", "feb", "fla", "fri", "ft",
    "gen", "i.e", "inc", "jan", "jr", "l.a", "lt", "ltd", "maj", "mg", "mr", "mrs", "ms", "n.y", "nov", "oct", "ok",
    "p.m", "ph.d", "prof", "rep", "sen", "sep", "sept", "sr", "st", "tues", "u.k", "u.s", "u.s.a", "v", "va", "vs",
    "wash", "wed",
))  # fmt: skip

_CLOSERS = "\"'»”’)\\]}>"
_STOP = re.compile(rf"(?<![\s.])\.(?=[{_CLOSERS}]*+(?:\s|$)|[?!;:*@(\[{{])")
_WORD_START = re.compile(r"[\s(\[{\":]")
_SYMBOL = re.compile(r"\.{2,}|--|[?!;@#$%&*()\[\]{}<>«»“”‘’„‒–—―]|`+|''|[:,](?!\d)")
_OPENING_QUOTE = re.compile(r"(?<!\w)'(?=\w)(?!(?:re|ve|ll|m|t|s|d|n)\b)")
_CLITIC = re.compile(r"(?<=[^'\s])('s|'m|'d|'ll|'re|'ve|n't|')(?=\s|$)")
_PAIRS = re.compile(r"\b(can)(not)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b|\b(wan)(na)(?=\s)")

# Digits of a number that keeps its full stop.
_LONGEST_NUMBER = 40


def _words(text: str) -> list[str]:
    """Split lower-cased English like nltk's `word_tokenize`: by the Penn Treebank rules, sentence by sentence.

    Not `localemp.metrics.tokens`, which differs on 3 of the 21,843 utterances of the validation and test splits: files
    and caches of inferences are looked up by these words.
    """
    text = re.sub(r"(^|[\s(\[{<])\"", r"\1 `` ", text).replace('"', " '' ")
    text = _stops_apart(text)
    text = _SYMBOL.sub(r" \g<0> ", text)
    text = _OPENING_QUOTE.sub("' ", text)
    text = _CLITIC.sub(r" \1", text)
    text = _PAIRS.sub(lambda pair: " ".join(part for part in pair.groups() if part), text)
    return text.split()


def _stops_apart(text: str) -> str:
    """Separate full stops, except those that nltk's English sentence splitter does not take as an end."""
    last = len(text.rstrip(_CLOSERS + " "))
    starts = [0, *(found.end() for found in _WORD_START.finditer(text))]

    def spaced(stop: re.Match[str]) -> str:
        start = starts[bisect_right(starts, stop.start()) - 1]
        # Limited, so that many stops in one endless word do not each read all of it.
        word = text[max(start, stop.start() - _LONGEST_NUMBER - 1) : stop.start()]
        return "." if stop.end() < last and _keeps_stop(word) else " . "

    return _STOP.sub(spaced, text)


def _keeps_stop(word: str) -> bool:
    return (
        word in _ABBREVIATIONS
        or (len(word) == 1 and word.isalpha())
        or (word.isdigit() and len(word) <= _LONGEST_NUMBER)
    )
