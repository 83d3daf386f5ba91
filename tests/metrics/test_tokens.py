"""Words as nltk's word_tokenize gives them, without its trained data."""

import subprocess
import sys

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

from localemp.data.sources import load_dialogues
from localemp.metrics.sentences import ABBREVIATIONS, KNOWN_WORDS, SENTENCE_STARTERS, split_sentences
from localemp.metrics.tokens import words, words_of_sentence

# What stands between spaces in chats, and all that nltk's rules look at.
PARTS = ["a", "B", "1", "3,5", "²", "é", "can", "not", "cannot", "gonna", "wanna", "gotta", "d'ye", "more'n", "'tis"]
PARTS += [
    "it's",
    "you're",
    "'s",
    "n't",
    "'ll",
    "Mr",
    "ok",
    "''",
    "``",
    "..",
    "...",
    "--",
    *"'\"’“”»«.,:;!?()[]<{}-–$%&*#@",
]
PARTS += [
    "Dr.",
    "J.",
    "I",
    "ok.",
    "u.s.",
    "3.",
    ". . .",
    "The",
    "the",
    "Lee",
    "thanks",
    "ß",
    "É",
    "\u0301",
    "\x1c",
    "日",
]
SENTENCES = st.lists(st.sampled_from([*PARTS, " ", " ", "  ", "\n", "\t", "\u00a0"]), max_size=14).map("".join)


def _punkt() -> PunktSentenceTokenizer:
    """nltk's Punkt, told what the word lists say."""
    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS)
    parameters.sent_starters.update(SENTENCE_STARTERS)
    capitalised_first, capitalised_inside, lower_case_inside = 1 << 1, 1 << 2, 1 << 5
    for word in KNOWN_WORDS:
        parameters.ortho_context[word] = capitalised_first | capitalised_inside | lower_case_inside
    return PunktSentenceTokenizer(parameters)


PUNKT = _punkt()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        (".", ["."]),
        ("Oh no! I'm so sorry.", ["Oh", "no", "!", "I", "'m", "so", "sorry", "."]),
        ("I can't, I cannot.", ["I", "ca", "n't", ",", "I", "can", "not", "."]),
        ("That is great.I agree.", ["That", "is", "great.I", "agree", "."]),
        ("Fine. Thanks.", ["Fine", ".", "Thanks", "."]),
        ("Wait... what?", ["Wait", "...", "what", "?"]),
        ('He said "hi".', ["He", "said", "``", "hi", "''", "."]),
        ("It cost $3.50, wow!!", ["It", "cost", "$", "3.50", ",", "wow", "!", "!"]),
        ("I saw Dr. Lee at 5 p.m. today.", ["I", "saw", "Dr.", "Lee", "at", "5", "p.m.", "today", "."]),
        ("We met at 5 p.m. It was fun.", ["We", "met", "at", "5", "p.m", ".", "It", "was", "fun", "."]),
        ("He is ok. Did you ask?", ["He", "is", "ok.", "Did", "you", "ask", "?"]),
        ("So do I. That is life.", ["So", "do", "I", ".", "That", "is", "life", "."]),
        ("J. Cash sang.", ["J.", "Cash", "sang", "."]),
        ("I am 25. My dog is 3.", ["I", "am", "25", ".", "My", "dog", "is", "3", "."]),
        ("gonna go", ["gon", "na", "go"]),
        ("日本 is nice.", ["日本", "is", "nice", "."]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_what_is_returned_can_be_changed():
    words("Oh no.").clear()
    assert words("Oh no.") == ["Oh", "no", "."]


@settings(max_examples=300, deadline=None)
@given(SENTENCES)
def test_sentences_are_those_of_nltks_punkt_with_the_same_word_lists(text):
    assert split_sentences(text) == PUNKT.tokenize(text)


def test_real_texts_have_the_words_of_nltk(shared_data):
    outputs = (
        path for path in (shared_data / "baseline_outputs").rglob("*") if path.suffix in (".txt", ".csv", ".tsv")
    )
    lines = {line for path in sorted(outputs) for line in path.read_text("utf-8", errors="replace").splitlines()}
    dialogues = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    texts = sorted({*lines, *(text for dialogue in dialogues for text in (*dialogue.turns, dialogue.reference or ""))})
    words_of = NLTKWordTokenizer().tokenize
    different = [
        t for t in texts if words(t) != [word for sentence in PUNKT.tokenize(t) for word in words_of(sentence)]
    ]
    assert len(texts) > 10_000
    assert different == []


def test_nltk_can_be_imported_as_a_whole_after_its_tokenizers():
    program = "import localemp.metrics.tokens, nltk; print(nltk.word_tokenize, nltk.edit_distance('a', 'b'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" 1\n")


@settings(max_examples=300, deadline=None)
@given(SENTENCES)
def test_pieces_give_the_words_of_nltks_rules(sentence):
    assert words_of_sentence(sentence) == NLTKWordTokenizer().tokenize(sentence)


def test_the_published_references_have_the_words_of_the_trained_model(shared_data):
    if not nltk.tokenize.punkt_model_available():
        pytest.skip("nltk has no punkt_tab: python -m nltk.downloader punkt_tab (or set NLTK_DATA)")
    dialogues = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    references = [dialogue.reference for dialogue in dialogues]
    different = [text for text in references if words(text) != nltk.word_tokenize(text)]
    assert len(references) == 5255
    assert different == []
