"""The words of a text as nltk's `word_tokenize` gives them, without the trained data that it would have to download.

nltk splits a text into sentences with a trained Punkt model, then each sentence into words by rules. Without the model,
words differ only at a full stop that may end an abbreviation, an initial or a sentence ("Dr. Lee", "So do I. We ...").
The word lists in `sentences.py` say what the model would decide there; docs/metrics.md reports how often they differ.
An installed model is not used, so that a text has the same words on every machine.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from sys import intern

from localemp.metrics.nltk_parts import NLTK_VERSION, NLTKWordTokenizer
from localemp.metrics.sentences import split_sentences

# What signatures say about tokens; the number of "sentences" rises when the word lists change.
TOKEN_SETTINGS: Mapping[str, str] = {
    "tokens": "nltk word_tokenize",
    "sentences": "localemp-1",
    "nltk": NLTK_VERSION,
}


def words(text: str) -> list[str]:
    """Return the words and punctuation marks of an English text, case kept."""
    return list(_words(text))


@lru_cache(maxsize=1 << 16)
def is_word(word: str) -> bool:
    """Return whether one of `words` has a letter or a digit, so that it is no punctuation mark."""
    return any(map(str.isalnum, word))


def clear_word_cache() -> None:
    """Empty the caches, as in a new process: for measurements."""
    for cached in (_words, _words_of_piece, is_word):
        cached.cache_clear()


# Large enough for the references and the replies of one system after another: each text is split once for all metrics.
@lru_cache(maxsize=1 << 16)
def _words(text: str) -> tuple[str, ...]:
    return tuple(intern(word) for sentence in split_sentences(text) for word in words_of_sentence(sentence))


def words_of_sentence(sentence: str) -> list[str]:
    """Return what nltk's `NLTKWordTokenizer` does, several times as fast.

    Its rules look no further than from one space to the next, except for a full stop at the end. The text between two
    spaces therefore has the same words wherever it stands, and mostly it is letters and at most one punctuation mark.
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
    before = [] if first else ["x"]
    after = [] if last else ["x"]
    found = _WORDS.tokenize(" ".join([*before, piece, *after]))
    return tuple(map(intern, found[len(before) : len(found) - len(after)]))


_WORDS = NLTKWordTokenizer()
# Letters and digits that the rules split all the same.
_CONTRACTIONS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))
_MARKS = frozenset(".,;:?!")
# What may follow the full stop that ends a sentence, spaces between.
_CLOSING = "])}>\"'»”’"
_OTHER_SPACE = re.compile(r"[^\S ]")
