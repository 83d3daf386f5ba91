"""Sentences of an English text, by the decisions of nltk's Punkt tokenizer (Kiss and Strunk 2006).

Punkt needs a trained model, which does not ship with nltk. The word lists below stand in for what the model knows about
abbreviations, initials and sentence starts; docs/metrics.md reports how often the sentences differ from the trained
model's. The algorithm is that of nltk 3.10.4 (Apache License 2.0, (C) NLTK Project), reduced to what these lists can
decide; a test holds the sentences equal to nltk's with the same lists.
"""

import string
from collections.abc import Iterator
from itertools import pairwise

import regex


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# One word with their full stop. Punkt's English model learned them from a newspaper: "ok." and "ill." are states, and
# "etc.", "e.g." and "i.e." are unknown to it.
ABBREVIATIONS = _word_set("""
    dr mr mrs ms messrs jr sr st prof gen col lt maj adm sen rep reps ph.d m.b.a
    a.m p.m p.a.m a.d yr vs ft ct mg chg ave inc co cos corp ltd cie bros
    u.s u.k u.n u.s.a u.s.s.r n.y n.j n.h n.c n.d n.m n.v s.c s.g s.a d.c l.a w.va b.v c.v
    jan feb aug sep sept oct nov dec tues wed fri
    ala ariz calif colo conn fla ga ill kan ky mich minn nev ok okla ore pa tenn va vt wash wis
    c d e f g h k l m n r s t v w
""")

# Capitalised after an abbreviation, these start a sentence.
_STARTERS = _word_set("""
    almost although always among anyone anything anyway apparently ask being better both but despite didn does doesn
    dogs either enjoy especially even eventually except feels felt finally fingers going guess hang happy he her
    here honestly however if imagine in instead isn it kids looking losing many meanwhile mine moreover most nor
    nothing okay otherwise please pretty probably regardless remember sadly seeing seems separately seriously
    similarly since so some someone sometimes sorry sounds still such taking thank thanks the there these they
    things think thinking this though thus took totally true try turns under unfortunately unless us very waiting
    were when whenever which while wish without yes yesterday yet your
""")
SENTENCE_STARTERS = _STARTERS | {"i"}

# Words that also occur in lower case: after "I.", one of them starts a sentence and is not a surname.
KNOWN_WORDS = _STARTERS | _word_set("""
    a about actually after again all also am an and any are as at be because been before best by can come could
    definitely did do don each every everyone everything family feel few find first for from getting give go good
    got great had hard has have having his hope how is its just keep kind last let life like little look lots love
    made make makes man may maybe me might more must my never new next no not now of on once one only or others our
    out people perhaps plus poor really school she should something stay take talk tell that then those time to
    today too two until up usually was we well what where who why will with would you
""")

_END = (".", "?", "!")
_PUNCTUATION = tuple(";:,.!?")
_NON_WORD = r"(?:[)\";}\]\*:@\'\({\[\u2018\u2019\u201c\u201d\xab\xbb!?])"
_REPEATED = r"(?:\-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_TOKEN = regex.compile(
    rf"""(
        {_REPEATED}
        |
        (?=[^\(\"\`{{\[:;&\#\*@\)}}\]\-,])\S+?
        (?=\s|$|{_NON_WORD}|{_REPEATED}|,(?=$|\s|{_NON_WORD}|{_REPEATED}))
        |
        \S
    )""",
    regex.VERBOSE,
)
# A mark that may end a sentence, and the token that follows it.
_CANDIDATE = regex.compile(rf"[.?!](?=(?P<after>{_NON_WORD}|\s+(?P<next>\S+)))")
# Closing quotes and brackets behind the mark, which belong to the sentence that it ends.
_CLOSING = regex.compile(r"""["')\]}\u2018\u2019\u201c\u201d\xab\xbb]+?(?:\s+|(?=--)|$)""", regex.MULTILINE)
_ELLIPSIS = regex.compile(r"\.\.+$")
_NUMBER = regex.compile(r"^-?[\.,]?\d[\d,\.-]*\.?$")
_INITIAL = regex.compile(r"[^\W\d]\.$")


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the space between them."""
    sentences = []
    skipped = 0
    slices = list(_slices(text))
    for (start, stop), following in zip(slices, [*slices[1:], None], strict=True):
        start += skipped
        skipped = 0
        closing = _CLOSING.match(text[slice(*following)]) if following else None
        if following and closing:
            sentences.append(text[start : following[0] + len(closing[0].rstrip())])
            skipped = closing.end()
        elif start < stop:
            sentences.append(text[start:stop])
    return sentences


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """Start and stop of each sentence, closing quotes and brackets not yet with their sentence."""
    start = 0
    for candidate, context in _candidates(text):
        if _contains_break(context):
            yield start, candidate.end()
            start = candidate.start("next") if candidate["next"] else candidate.end()
    yield start, len(text.rstrip())


def _candidates(text: str) -> "Iterator[tuple[regex.Match[str], str]]":
    """Marks that may end a sentence, the last of several behind one word, each with the words around it."""
    before = (0, 0)
    last = None
    for candidate in _CANDIDATE.finditer(text):
        space = max(map(text[before[1] : candidate.start()].rfind, string.whitespace))
        word = (before[1] + space + 1 if space > 0 else before[0], candidate.start())
        if last and before[1] <= word[0]:
            yield last, text[slice(*before)] + last[0] + last["after"]
        last, before = candidate, word
    if last:
        yield last, text[slice(*before)] + last[0] + last["after"]


def _contains_break(context: str) -> bool:
    """Whether a sentence ends at one of the tokens but the last."""
    tokens = [token for line in context.split("\n") for token in _TOKEN.findall(line)]
    return any(_ends_sentence(token, following) for token, following in pairwise(tokens))


def _ends_sentence(token: str, following: str) -> bool:
    """Whether a sentence ends between two tokens."""
    ends = _seems_to_end(token)
    if not token.endswith("."):
        return ends
    initial = bool(_INITIAL.match(token))
    capital = following[0].isupper()
    word = following.lower()
    if len(word) > 1 and word.endswith(".") and _seems_to_end(following):
        word = word[:-1]
    if not ends and not initial and capital and word in SENTENCE_STARTERS:
        return True
    if initial or _NUMBER.match(token.lower()):
        if following in _PUNCTUATION or following[0].islower():
            return False
        if initial and capital and word not in KNOWN_WORDS:  # a surname
            return False
    return ends


def _seems_to_end(token: str) -> bool:
    """Whether a token alone looks like the end of a sentence: a mark, or a word with a full stop."""
    if token in _END:
        return True
    if not token.endswith(".") or token.endswith(".."):
        return False
    word = token[:-1].lower()
    return word not in ABBREVIATIONS and word.rpartition("-")[2] not in ABBREVIATIONS
