"""The words of a text as nltk's `word_tokenize` gives them, without the trained data that it would have to download.

nltk cuts a text into sentences with a trained Punkt model, then each sentence into words by rules. The rules ship with
nltk, the model does not. Without it words differ only at a full stop that may end an abbreviation, an initial or a
sentence ("Dr. Lee", "So do I. We ..."); the word lists below tell Punkt what its model would say there. How often that
is not the same is measured in docs/metrics.md. A model that is installed is not used: the words of a text are the same
on every machine.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from sys import intern

from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

# What a signature says of tokens; the number rises when the word lists change.
TOKEN_SETTINGS: Mapping[str, str] = {
    "tokens": "nltk word_tokenize",
    "sentences": "localemp-1",
    "nltk": version("nltk"),
}

# With their full stop one word. Punkt's English model learned them from a newspaper: "ok." and "ill." are states, and
# "etc.", "e.g." and "i.e." are not known.
_ABBREVIATIONS = """
    dr mr mrs ms messrs jr sr st prof gen col lt maj adm sen rep reps ph.d m.b.a
    a.m p.m p.a.m a.d yr vs ft ct mg chg ave inc co cos corp ltd cie bros
    u.s u.k u.n u.s.a u.s.s.r n.y n.j n.h n.c n.d n.m n.v s.c s.g s.a d.c l.a w.va b.v c.v
    jan feb aug sep sept oct nov dec tues wed fri
    ala ariz calif colo conn fla ga ill kan ky mich minn nev ok okla ore pa tenn va vt wash wis
    c d e f g h k l m n r s t v w
"""

# Capitalised after an abbreviation, these begin a sentence.
_STARTERS = """
    almost although always among anyone anything anyway apparently ask being better both but despite didn does doesn
    dogs either enjoy especially even eventually except feels felt finally fingers going guess hang happy he her
    here honestly however if imagine in instead isn it kids looking losing many meanwhile mine moreover most nor
    nothing okay otherwise please pretty probably regardless remember sadly seeing seems separately seriously
    similarly since so some someone sometimes sorry sounds still such taking thank thanks the there these they
    things think thinking this though thus took totally true try turns under unfortunately unless us very waiting
    were when whenever which while wish without yes yesterday yet your
"""

# Words that are written small elsewhere: what begins with one of them after "I." is a sentence, and no surname.
_COMMON = """
    a about actually after again all also am an and any are as at be because been before best by can come could
    definitely did do don each every everyone everything family feel few find first for from getting give go good
    got great had hard has have having his hope how is its just keep kind last let life like little look lots love
    made make makes man may maybe me might more must my never new next no not now of on once one only or others our
    out people perhaps plus poor really school she should something stay take talk tell that then those time to
    today too two until up usually was we well what where who why will with would you
"""


def words(text: str) -> list[str]:
    """Words and punctuation of an English text, case kept; empty for an empty text."""
    return list(_words(text))


def forget_words() -> None:
    """Forget all texts, as in a process that has just begun: for measurements."""
    for cached in (_words, _words_of_piece):
        cached.cache_clear()


# Large enough for the references and the replies of one system after another: each text is cut once for all metrics.
@lru_cache(maxsize=1 << 16)
def _words(text: str) -> tuple[str, ...]:
    return tuple(intern(word) for sentence in _SENTENCES.tokenize(text) for word in words_of_sentence(sentence))


def words_of_sentence(sentence: str) -> list[str]:
    """What nltk's `NLTKWordTokenizer` gives, several times as fast.

    Its thirty rules look no further than from one space to the next, but for a full stop at the end. A piece between
    spaces is therefore the same words wherever it stands, and most pieces are letters and a punctuation mark at most.
    """
    pieces = sentence.split(" ")
    if len(pieces) == 1 or _OTHER_SPACE.search(sentence) or not pieces[-1].strip(_CLOSING):
        return list(_WORDS.tokenize(sentence))
    found: list[str] = []
    last = len(pieces) - 1
    for place, piece in enumerate(pieces):
        word, mark = (piece[:-1], piece[-1]) if piece[-1:] in _MARKS else (piece, "")
        if word.isalnum() and word.lower() not in _CONTRACTIONS:
            found += (word, mark) if mark and (mark != "." or place == last) else (piece,)
        elif piece:
            found += _words_of_piece(piece, place == 0, place == last)
    return found


@lru_cache(maxsize=1 << 16)
def _words_of_piece(piece: str, first: bool, last: bool) -> tuple[str, ...]:
    text = f"{'' if first else 'x '}{piece}{'' if last else ' x'}"
    found = _WORDS.tokenize(text)
    return tuple(map(intern, found[0 if first else 1 : None if last else -1]))


def _punkt() -> PunktSentenceTokenizer:
    parameters = PunktParameters()
    parameters.abbrev_types.update(_ABBREVIATIONS.split())
    parameters.sent_starters.update(("i", *_STARTERS.split()))
    for word in (_STARTERS + _COMMON).split():  # not "i": it is never written small
        parameters.ortho_context[word] = _WRITTEN_SMALL_AND_LARGE
    return PunktSentenceTokenizer(parameters)


_WORDS = NLTKWordTokenizer()
# Letters and digits that its rules cut all the same.
_CONTRACTIONS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))
_MARKS = frozenset(".,;:?!")
# What may follow the full stop that ends a sentence, spaces between.
_CLOSING = "])}>\"'»”’"
_OTHER_SPACE = re.compile(r"[^\S ]")
# Punkt's bits for: begins a sentence capitalised; is capitalised inside one; is not capitalised inside one.
_WRITTEN_SMALL_AND_LARGE = 1 << 1 | 1 << 2 | 1 << 5
_SENTENCES = _punkt()
