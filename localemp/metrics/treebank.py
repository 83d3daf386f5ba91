"""Penn Treebank words of one English sentence, by the rules of nltk's `NLTKWordTokenizer`.

The rules are those of nltk 3.10.4 (Apache License 2.0, (C) NLTK Project). They stand here because importing nltk takes
more than a second and loads scipy and scikit-learn; a test holds the words equal to nltk's.
"""

import re

import regex

NLTK_VERSION = "3.10.4"

# Applied in this order; nltk compiles them with `regex`, whose \s and \w are not those of `re`.
_RULES = [
    # Opening quotes.
    (regex.compile("([«“‘„]|[`]+)"), r" \1 "),
    (regex.compile(r"^\""), r"``"),
    (regex.compile(r"(``)"), r" \1 "),
    (regex.compile(r"([ \(\[{<])(\"|\'{2})"), r"\1 `` "),
    (regex.compile(r"(?i)(?<!\w)(\')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)"), r"\1 "),
    # Punctuation.
    (regex.compile(r'([^\.])(\.)([\]\)}>"\' »”’ ]*+)\s*$'), r"\1 \2 \3 "),
    (regex.compile(r"([:,])([^\d])"), r" \1 \2"),
    (regex.compile(r"([:,])$"), r" \1 "),
    (regex.compile(r"\.{2,}"), r" \g<0> "),
    (regex.compile(r"[;@#$%&]"), r" \g<0> "),
    (regex.compile(r"[\u2012-\u2015]"), r" \g<0> "),
    (regex.compile(r'([^\.])(\.)([\]\)}>"\']*)\s*$'), r"\1 \2\3 "),
    (regex.compile(r"[?!]"), r" \g<0> "),
    (regex.compile(r"([^'])' "), r"\1 ' "),
    (regex.compile(r"[*]"), r" \g<0> "),
    # Brackets and dashes.
    (regex.compile(r"[\]\[\(\)\{\}\<\>]"), r" \g<0> "),
    (regex.compile(r"--"), r" -- "),
]

# Applied to the sentence with a space at both ends.
_ENDINGS = [
    # Closing quotes and clitics.
    (regex.compile("([»”’])"), r" \1 "),
    (regex.compile(r"''"), " '' "),
    (regex.compile(r'"'), " '' "),
    (regex.compile(r"\s+"), " "),
    (regex.compile(r"([^' ])('[sS]|'[mM]|'[dD]|') "), r"\1 \2 "),
    (regex.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "), r"\1 \2 "),
]

# nltk compiles these with `re`.
_CONTRACTIONS = [
    re.compile(r"\b(can)(not)\b", re.IGNORECASE),
    re.compile(r"\b(d)('ye)\b", re.IGNORECASE),
    re.compile(r"\b(gim)(me)\b", re.IGNORECASE),
    re.compile(r"\b(gon)(na)\b", re.IGNORECASE),
    re.compile(r"\b(got)(ta)\b", re.IGNORECASE),
    re.compile(r"\b(lem)(me)\b", re.IGNORECASE),
    re.compile(r"\b(more)('n)\b", re.IGNORECASE),
    re.compile(r"\b(wan)(na)(?=\s)", re.IGNORECASE),
    re.compile(r" ('t)(is)\b", re.IGNORECASE),
    re.compile(r" ('t)(was)\b", re.IGNORECASE),
]


def split_words(sentence: str) -> list[str]:
    """Return the words and punctuation marks of a sentence, case kept."""
    for pattern, replacement in _RULES:
        sentence = pattern.sub(replacement, sentence)
    sentence = f" {sentence} "
    for pattern, replacement in _ENDINGS:
        sentence = pattern.sub(replacement, sentence)
    for pattern in _CONTRACTIONS:
        sentence = pattern.sub(r" \1 \2 ", sentence)
    return sentence.split()
