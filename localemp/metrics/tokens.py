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
from sys import intern

from localemp.metrics.sentences import split_sentences
from localemp.metrics.treebank import NLTK_VERSION, split_words

# What a signature says of tokens; the number rises when the word lists change.
TOKEN_SETTINGS: Mapping[str, str] = {
    "tokens": "nltk word_tokenize",
    "sentences": "localemp-1",
    "nltk": NLTK_VERSION,
}


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
    return tuple(intern(word) for sentence in split_sentences(text) for word in words_of_sentence(sentence))


def words_of_sentence(sentence: str) -> list[str]:
    """What nltk's `NLTKWordTokenizer` gives, several times as fast.

    Its thirty rules look no further than from one space to the next, but for a full stop at the end. A piece between
    spaces is therefore the same words wherever it stands, and most pieces are letters and a punctuation mark at most.
    """
    pieces = sentence.split(" ")
    if len(pieces) == 1 or _OTHER_SPACE.search(sentence) or not pieces[-1].strip(_CLOSING):
        return split_words(sentence)
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
    found = split_words(text)
    return tuple(map(intern, found[0 if first else 1 : None if last else -1]))


# Letters and digits that its rules cut all the same.
_CONTRACTIONS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))
_MARKS = frozenset(".,;:?!")
# What may follow the full stop that ends a sentence, spaces between.
_CLOSING = "])}>\"'»”’"
_OTHER_SPACE = re.compile(r"[^\S ]")
