"""ATOMIC's relations, what an inference is, and which text of a dialogue is the event (section 3.3.3)."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from localemp.dialogue import Dialogue
from localemp.errors import OptionError, UnknownNameError
from localemp.models.atomic import ATOMIC_2020, EventKind
from localemp.utils.text import is_well_formed

Inferences = Mapping[str, tuple[str, ...]]
"""Relation name to its inferences, best first, such as `{"xReact": ("sad", "lonely")}`."""


@dataclass(frozen=True, slots=True)
class Beam:
    """One inference, as the beam search left it.

    Attributes:
        text: Such as "to be alone".
        score: Its log probability divided by its length in tokens; None where nobody kept it.
    """

    text: str
    score: float | None = None


Beams = Mapping[str, tuple[Beam, ...]]
"""Relation name to all that was inferred, best first, before anything was chosen from it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What COMET said of one event.

    Attributes:
        beams: Of each relation that was asked.
        cut: Characters of the event's beginning that the encoder had no room for.
    """

    beams: Beams
    cut: int = 0


def check_relations(relations: Iterable[str], trained: Sequence[str] | None = None) -> None:
    """See that all of these can be asked.

    Args:
        relations: What is to be asked.
        trained: What the checkpoint was trained on; None is all of ATOMIC 2020.

    Raises:
        UnknownNameError: ATOMIC 2020 has no such relation.
        OptionError: It has, but the checkpoint was not trained on it.
    """
    for relation in relations:
        if relation not in ATOMIC_2020:
            raise UnknownNameError("relation", relation, trained or ATOMIC_2020)
        if trained is not None and relation not in trained:
            raise OptionError(
                f"this COMET was not trained on the relation {relation!r}", f"it knows: {', '.join(trained)}"
            )


def check_events(events: Sequence[str]) -> None:
    """See that every event is a text.

    Raises:
        OptionError: One is empty, or holds an unpaired surrogate; says which.
    """
    for number, event in enumerate(events, 1):
        if not event.strip():
            raise OptionError(f"event {number} is empty", "give COMET a text that says what happened")
        if not is_well_formed(event):
            raise OptionError(f"event {number} is no valid Unicode text", "give it in UTF-8")


def event_of(kind: EventKind) -> Callable[[Dialogue], str]:
    """How a dialogue becomes the event that COMET is asked about."""
    return paper_event if kind == "context" else lambda dialogue: released_event(dialogue.last_utterance)


def paper_event(dialogue: Dialogue) -> str:
    """The event as the paper has it (Eq. 6): the whole context, its turns joined by a space."""
    return " ".join(turn.strip() for turn in dialogue.turns)


def released_event(utterance: str) -> str:
    """The event as the released code has it: lower-cased, some contractions expanded, tokenised, joined by spaces.

    The code gives it the dialogue's last utterance, and puts COMET's answers through the same steps.

    Args:
        utterance: One turn, or one inference.
    """
    text = utterance.lower()
    # One after the other, and inside words too ("my rabbit's" becomes "my rabbit is"), as the code does it.
    for short, full in _CONTRACTIONS:
        text = text.replace(short, full)
    return " ".join(_words(text))


_CONTRACTIONS = (
    ("it's", "it is"), ("don't", "do not"), ("doesn't", "does not"), ("didn't", "did not"), ("you'd", "you would"),
    ("you're", "you are"), ("you'll", "you will"), ("i'm", "i am"), ("they're", "they are"), ("that's", "that is"),
    ("what's", "what is"), ("couldn't", "could not"), ("i've", "i have"), ("we've", "we have"), ("can't", "cannot"),
    ("i'd", "i would"), ("aren't", "are not"), ("isn't", "is not"), ("wasn't", "was not"), ("weren't", "were not"),
    ("won't", "will not"), ("there's", "there is"), ("there're", "there are"),
)  # fmt: skip

# Words that keep their full stop in the middle of a text. Single letters and numbers do too.
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

# A number with more digits is none that anybody means.
_LONGEST_NUMBER = 40


def _words(text: str) -> list[str]:
    """Lower-cased English as nltk's `word_tokenize` splits it: Penn Treebank's way, sentence by sentence."""
    text = re.sub(r"(^|[\s(\[{<])\"", r"\1 `` ", text).replace('"', " '' ")
    text = _stops_apart(text)
    text = _SYMBOL.sub(r" \g<0> ", text)
    text = _OPENING_QUOTE.sub("' ", text)
    text = _CLITIC.sub(r" \1", text)
    text = _PAIRS.sub(lambda pair: " ".join(part for part in pair.groups() if part), text)
    return text.split()


def _stops_apart(text: str) -> str:
    """Full stops as tokens of their own, but for those that nltk's English splitter takes to end no sentence."""
    last = len(text.rstrip(_CLOSERS + " "))
    starts = [0, *(found.end() for found in _WORD_START.finditer(text))]

    def spaced(stop: re.Match[str]) -> str:
        start = starts[bisect_right(starts, stop.start()) - 1]
        # Cut, so that many stops in one endless word do not each read all of it.
        word = text[max(start, stop.start() - _LONGEST_NUMBER - 1) : stop.start()]
        return "." if stop.end() < last and _keeps_stop(word) else " . "

    return _STOP.sub(spaced, text)


def _keeps_stop(word: str) -> bool:
    return (
        word in _ABBREVIATIONS
        or (len(word) == 1 and word.isalpha())
        or (word.isdigit() and len(word) <= _LONGEST_NUMBER)
    )
