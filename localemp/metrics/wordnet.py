"""WordNet's synonyms of a word, read from the files of Princeton's distribution (Fellbaum 1998).

`index.POS` has a line for each lemma with the places of its synsets, `data.POS` the synsets themselves, and `POS.exc`
irregular forms such as "went go". `synonyms` gives what nltk's METEOR takes as synonyms, without the seconds that
nltk's own reader takes to begin.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from localemp.errors import WeightsError

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
FILES = tuple(name for pos in PARTS_OF_SPEECH for name in (f"index.{pos}", f"data.{pos}", f"{pos}.exc"))

# An ending of a form, and that of its lemma: WordNet's Morphy.
_ENDINGS: Mapping[str, tuple[tuple[bytes, bytes], ...]] = {
    "noun": (
        (b"s", b""), (b"ses", b"s"), (b"ves", b"f"), (b"xes", b"x"), (b"zes", b"z"), (b"ches", b"ch"), (b"shes", b"sh"),
        (b"men", b"man"), (b"ies", b"y"),
    ),
    "verb": (
        (b"s", b""), (b"ies", b"y"), (b"es", b"e"), (b"es", b""), (b"ed", b"e"), (b"ed", b""), (b"ing", b"e"),
        (b"ing", b""),
    ),
    "adj": ((b"er", b""), (b"est", b""), (b"er", b"e"), (b"est", b"e")),
    "adv": (),
}  # fmt: skip
_VERSION = re.compile(rb"WordNet (\d+(?:\.\d+)?) Copyright")
_REPAIR = "repair or remove it"
_MARKER = re.compile(rb"\([^()]*\)$")  # where an adjective may stand, such as "galore(ip)"


class _Lexicon(NamedTuple):
    """What the files say of one part of speech."""

    lines: Mapping[bytes, bytes]  # of the index, by lemma
    synsets: bytes
    irregular: Mapping[bytes, list[bytes]]


class WordNet:
    """WordNet in memory.

    Args:
        files: The content of each of `FILES`.
        sha256: A hash of them, for signatures.
        place: Where they are, for errors.

    Attributes:
        version: What the files say about their version, such as "3.0".
        sha256: As given.

    Raises:
        WeightsError: The files are not WordNet's.
    """

    def __init__(self, files: Mapping[str, bytes], sha256: str, place: str = "WordNet") -> None:
        named = _VERSION.search(files["data.adj"][:4096])
        if named is None:
            raise WeightsError(f"{place}: data.adj does not say which version of WordNet it is from", _REPAIR)
        self.version, self.sha256, self._place = named[1].decode(), sha256, place
        self._lexicons = {pos: _lexicon(files, pos) for pos in PARTS_OF_SPEECH}

    def synonyms(self, word: str) -> frozenset[str]:
        """Return the single words of all synsets that have a word, or a form of it; case as in WordNet.

        Raises:
            WeightsError: An index points to something that is no synset.
        """
        form = word.lower().encode("utf-8", "surrogatepass")
        try:
            return frozenset(name for pos in PARTS_OF_SPEECH for name in self._names(form, pos))
        except (ValueError, IndexError) as error:
            what = f"the files of WordNet {self.version} are damaged ({str(error)[:200]})"
            raise WeightsError(f"{self._place}: {what}", _REPAIR) from error

    def _names(self, form: bytes, pos: str) -> set[str]:
        lexicon, found = self._lexicons[pos], set()
        for lemma in _lemmas(form, pos, lexicon):
            fields = lexicon.lines[lemma].split()
            for offset in map(int, fields[-int(fields[2]) :]):
                found |= _members(lexicon.synsets, offset)
        return {name.decode() for name in found}


def _lexicon(files: Mapping[str, bytes], pos: str) -> _Lexicon:
    lines = files[f"index.{pos}"].splitlines()
    # The first lines are the licence, and begin with a space.
    index = {line[: line.find(b" ")]: line for line in lines if not line.startswith(b" ")}
    terms = (line.split() for line in files[f"{pos}.exc"].splitlines())
    return _Lexicon(index, files[f"data.{pos}"], {form: lemmas for form, *lemmas in filter(None, terms)})


def _lemmas(form: bytes, pos: str, lexicon: _Lexicon) -> list[bytes]:
    """Return the lemmas that a form may belong to: Morphy, with the rules applied once."""
    lemmas = lexicon.irregular.get(form)
    if lemmas is None:
        lemmas = [form[: -len(old)] + new for old, new in _ENDINGS[pos] if form.endswith(old)]
    return [lemma for lemma in dict.fromkeys([form, *lemmas]) if lemma in lexicon.lines]


def _members(synsets: bytes, offset: int) -> set[bytes]:
    """Return the members of a synset that are single words."""
    # OFFSET FILE POS COUNT WORD ID WORD ID ...
    fields = synsets[offset : synsets.index(b"|", offset)].split()
    if int(fields[0]) != offset:
        raise ValueError(f"there is no synset at {offset}")
    names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return {_MARKER.sub(b"", name) for name in names if b"_" not in name}
