"""Words as nltk's word_tokenize gives them, without its trained data."""

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer

from localemp.data.sources import load_dialogues
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
@given(st.lists(st.sampled_from([*PARTS, " ", "  ", "\n", "\u00a0"]), max_size=14).map("".join))
def test_pieces_give_the_words_of_nltks_rules(sentence):
    assert words_of_sentence(sentence) == NLTKWordTokenizer().tokenize(sentence)


def test_the_published_references_have_the_words_of_the_trained_model(shared_data):
    if not nltk.tokenize.punkt_model_available():
        pytest.skip("nltk has no punkt_tab on this machine (set NLTK_DATA to compare with the trained model)")
    dialogues = load_dialogues(str(shared_data / "empathetic_dialogues"), "test", "published")
    references = [dialogue.reference for dialogue in dialogues]
    different = [text for text in references if words(text) != nltk.word_tokenize(text)]
    assert len(references) == 5255
    assert different == []
